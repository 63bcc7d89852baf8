"""Reads a model folder in Hugging Face's layout: JSON files, and weights in one or several safetensors files.

Input: the folder. Output: JSON objects, and tensors by name. As in transformers, `model.safetensors` has
priority over an index of shards. Files outside the folder are not opened. Does not know architectures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.pretrained.settings import short_repr
from sensorium.models.weights import one_line, read_safetensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Prefix the path of the checkpoint to error messages."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_json(path: Path, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a JSON object; `default` stands in for a missing file; raises as `read_text` does."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if default is not None:
            return dict(default)
        raise NotFoundError(f"no file {path}; expected a folder in Hugging Face's layout") from error
    except (ValueError, RecursionError, OSError) as error:  # not UTF-8 is a ValueError
        raise CheckpointError(f"{path} is not JSON: {one_line(error)}; fetch it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {short_repr(values)}, not a JSON object; fetch it again")
    return values


def read_text(path: Path) -> str:
    """Read a text file; raises `NotFoundError` if it is missing, `CheckpointError` if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}; give the folder of a model as it was published") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a text in UTF-8: {error}; fetch it again") from error


def has_weights(folder: Path) -> bool:
    """Whether the folder has safetensors weights."""
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all tensors.

    Raises:
        NotFoundError: If a file is missing.
        CheckpointError: If a file is damaged, or the index names files outside the folder.
    """
    is_sharded = (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file()
    names = _shards(folder / INDEX) if is_sharded else [WEIGHTS]
    state: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise NotFoundError(f"no file {path}; only safetensors are read, expected {WEIGHTS} or shards")
        state.update(read_safetensors(path)[0])
    return state


def _shards(index: Path) -> list[str]:
    """Sorted names of the shards in an index."""
    listed = read_json(index).get("weight_map")
    is_map = isinstance(listed, dict) and all(isinstance(name, str) for name in listed.values())
    if not isinstance(listed, dict) or not listed or not is_map:
        raise CheckpointError(f"{index} has weight_map={short_repr(listed)}; expected files by tensor name")
    names = sorted(set(listed.values()))
    for name in names:
        if not name.endswith(".safetensors") or not _is_within(name):
            raise CheckpointError(f"{index} names {short_repr(name)}; expected a .safetensors file beside it")
    return names


def _is_within(name: str) -> bool:
    path = PurePosixPath(name)
    is_plain = not path.is_absolute() and ".." not in path.parts and "\\" not in name
    return is_plain and name.isprintable() and len(name.encode()) < 256
