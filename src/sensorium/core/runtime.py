"""Runtime settings: device, precision, random generators, cache folder, progress, optional packages."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

import platformdirs

from sensorium.core.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Precision = Literal["fp32", "bf16"]


@runtime_checkable
class Progress(Protocol):
    """Callback for progress; the command line draws a bar, libraries may pass their own or none."""

    def __call__(self, done: int, total: int | None, message: str) -> None:
        """Report that `done` of `total` units are finished; `message` is shown beside the bar."""


def quiet(done: int, total: int | None, message: str) -> None:
    """Progress callback that does nothing; the default."""


def track(items: Iterable[T], total: int | None, message: str, progress: Progress) -> Iterator[T]:
    """Yield `items`, reporting after each."""
    progress(0, total, message)
    for done, item in enumerate(items, start=1):
        yield item
        progress(done, total, message)


def cache_dir(name: str = "") -> Path:
    """Folder for packages, weights and tables: `$SENSORIUM_CACHE` or the user's cache; created if missing."""
    root = os.environ.get("SENSORIUM_CACHE")
    path = (Path(root).expanduser() if root else Path(platformdirs.user_cache_dir("sensorium"))) / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module; MissingExtraError with the install command if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"needs '{module}': pip install \"sensorium[{extra}]\"") from error


def pick_device(name: str = "auto") -> torch.device:
    """Resolve `auto`, `cpu`, `cuda`, `cuda:1` or `mps`; UsageError if the device does not exist."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = name.partition(":")[0]
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        here = [kind for kind, is_there in present.items() if is_there]
        raise UsageError(f"device '{name}' is not here; use one of auto, {', '.join(here)}")
    number = name.partition(":")[2]
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if ":" in name and not (number.isdecimal() and int(number) < count):
        raise UsageError(f"device '{name}' is not here; there are {count} of {kind}, from {kind}:0 on")
    return torch.device(name)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which matrix products run in `precision`; parameters stay float32."""
    import torch

    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def generator(seed: int, *stream: int) -> torch.Generator:
    """Independent random generator, seeded by `seed` and further numbers (epoch, row, ...)."""
    import numpy as np
    import torch

    state = np.random.SeedSequence([seed, *stream]).generate_state(1, dtype=np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
