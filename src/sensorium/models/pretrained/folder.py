"""A folder as Hugging Face lays it out: its JSON files, and its weights in one safetensors file or in shards.

In: the folder. Out: JSON objects and tensors by name. As in transformers, `model.safetensors` goes before
an index of shards. Files outside the folder are not opened. Knows no architecture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.pretrained.settings import Settings, shown
from sensorium.models.weights import one_line, read_safetensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error say of which checkpoint it speaks."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_json(path: Path, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        default: Returned where there is none; None: it must be there.

    Raises:
        NotFoundError: If it is not there.
        CheckpointError: If it is not a JSON object in UTF-8.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if default is not None:
            return dict(default)
        raise NotFoundError(f"no file {path}; expected a folder as Hugging Face lays it out") from error
    except (ValueError, RecursionError, OSError) as error:  # not UTF-8 is a ValueError
        raise CheckpointError(f"{path} is not JSON: {one_line(error)}; fetch it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {shown(values)}, not a JSON object; fetch it again")
    return values


def read_text(path: Path) -> str:
    """Read a text in UTF-8.

    Raises:
        NotFoundError: If it is not there.
        CheckpointError: If it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}; give the folder of a model as it was published") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a text in UTF-8: {error}; fetch it again") from error


def has_weights(folder: Path) -> bool:
    """Whether there are weights in safetensors."""
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all tensors.

    Raises:
        NotFoundError: If a file is not there.
        CheckpointError: If one is damaged, or the index names files outside the folder.
    """
    names = (
        [WEIGHTS]
        if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file()
        else _shards(folder / INDEX)
    )
    state: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise NotFoundError(f"no file {path}; only safetensors are read, expected {WEIGHTS} or shards")
        state.update(read_safetensors(path)[0])
    return state


def _shards(index: Path) -> list[str]:
    """Names of the shards that an index lists, in their order."""
    listed = read_json(index).get("weight_map")
    if (
        not isinstance(listed, dict)
        or not listed
        or not all(isinstance(name, str) for name in listed.values())
    ):
        raise CheckpointError(
            f"{index} has weight_map={shown(listed)}; expected names of files by names of tensors"
        )
    names = sorted(set(listed.values()))
    for name in names:
        if not name.endswith(".safetensors") or not _is_within(name):
            raise CheckpointError(
                f"{index} names {shown(name)}; expected a .safetensors file in the same folder"
            )
    return names


def _is_within(name: str) -> bool:
    path = PurePosixPath(name)
    is_plain = not path.is_absolute() and ".." not in path.parts and "\\" not in name
    return is_plain and name.isprintable() and len(name.encode()) < 256


def check_end_ids(values: Mapping[str, Any], source: str) -> None:
    """Refuse ids of the end that are no whole numbers.

    Raises:
        CheckpointError: If `eos_token_id` is neither a whole number nor a list of such.
    """
    found = values.get("eos_token_id")
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if any(type(one) is not int for one in ids):
        raise Settings(values, source).refusal("eos_token_id", "an id or a list of ids")
