"""`sensorium doctor`: versions, machine, and a self-check of each part.

Each check does the smallest real work of its kind: decode an image and a sound, write and read a table,
multiply on the default device. A bug report should begin with this output.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import typer

from sensorium import __version__
from sensorium.cli.output import JsonOption, emit_json, emit_pairs, note
from sensorium.core.runtime import cache_dir, pick_device

REQUIRED = (
    "torch", "numpy", "pillow", "av", "soundfile", "soxr", "tokenizers", "safetensors", "pyarrow",
)  # fmt: skip
OPTIONAL = ("onnxruntime", "huggingface-hub", "psutil")
CLIENTS = ("pip", "npm", "apt-get")


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    is_ok: bool
    detail: str


def doctor(json: JsonOption = False) -> None:
    """Say what is installed, where things run, and whether they work.

    Exits 1 if a check fails.
    """
    installed, place, checks = versions(), machine(), run_checks()
    failed = [check for check in checks if not check.is_ok]
    if json:
        found = {check.name: {"ok": check.is_ok, "detail": check.detail} for check in checks}
        emit_json({"versions": installed, "machine": place, "checks": found, "ok": not failed})
    else:
        optional = dict.fromkeys(OPTIONAL, "not installed (optional)")
        emit_pairs({name: version or optional.get(name, "MISSING") for name, version in installed.items()})
        print()
        emit_pairs(place)
        print()
        results = {one.name: f"{'ok' if one.is_ok else 'FAILED'}  {one.detail}" for one in checks}
        emit_pairs({f"check: {name}": result for name, result in results.items()})
        note("" if failed else "all well; next: sensorium quickstart")
    if failed:
        raise typer.Exit(1)


def versions() -> dict[str, str]:
    """Versions of sensorium, Python and its dependencies; empty if one is missing."""
    own = {"sensorium": __version__, "python": platform.python_version()}
    return own | {name: _version(name) for name in (*REQUIRED, *OPTIONAL)}


def machine() -> dict[str, str]:
    """System, CPU, threads, device, cache folder and clients of package registries."""
    import torch

    cache = cache_dir()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
        "device": _device_name(),
        "cache": str(cache),
        "cache free": f"{shutil.disk_usage(cache).free / 1e9:.1f} GB",
        "clients": ", ".join(name for name in CLIENTS if shutil.which(name)) or "none",
    }


def run_checks() -> list[Check]:
    """Run all checks; errors become failed checks."""
    return [_try(name, check) for name, check in _CHECKS.items()]


def _try(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:
        return Check(name, False, " ".join(f"{type(error).__name__}: {error}".split()))


def _check_image() -> str:
    from PIL import Image

    from sensorium import media

    buffer = io.BytesIO()
    Image.new("RGB", (13, 7), (200, 30, 40)).save(buffer, "PNG")
    opened = media.open(buffer.getvalue())
    assert isinstance(opened, media.Image), f"opened as {type(opened).__name__}"
    assert opened.pixels.shape == (7, 13, 3), f"shape {opened.pixels.shape}"
    return f"PNG, {opened.pixels.shape[1]}x{opened.pixels.shape[0]}"


def _check_audio() -> str:
    import numpy as np
    import soundfile

    from sensorium import media

    buffer = io.BytesIO()
    wave = np.sin(np.arange(8000) * 0.1).astype(np.float32)
    soundfile.write(buffer, wave, 8000, format="OGG", subtype="VORBIS")
    opened = media.open(buffer.getvalue())
    assert isinstance(opened, media.Audio), f"opened as {type(opened).__name__}"
    return f"Ogg Vorbis, {len(opened.samples) / opened.sample_rate_hz:.1f} s"


def _check_table() -> str:
    from sensorium.data.table.sample import Caption, Sample
    from sensorium.data.table.table import Table

    with tempfile.TemporaryDirectory() as folder:
        table = Table.create(Path(folder) / "check.lance")
        table.add([Sample("check", texts=[Caption("en", "a frog")])])
        found = Table.open(table.path).rows([0])[0].texts[0].text
    assert found == "a frog", f"read '{found}'"
    return "written and read"


def _check_device() -> str:
    import torch

    device = pick_device()
    product = torch.ones(5, 3, device=device) @ torch.ones(3, 2, device=device)
    assert float(product.sum()) == 30.0, f"sum {float(product.sum())}"
    return f"product on {device}"


def _check_cache() -> str:
    folder = cache_dir()
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"x")
    return f"{folder} can be written"


def _device_name() -> str:
    import torch

    device = pick_device()
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


_CHECKS: Mapping[str, Callable[[], str]] = {
    "image": _check_image,
    "sound": _check_audio,
    "table": _check_table,
    "device": _check_device,
    "cache": _check_cache,
}
