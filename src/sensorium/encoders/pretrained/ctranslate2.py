"""The weights in a CTranslate2 `model.bin`, without CTranslate2.

In: the file. Out: arrays by name. The layout, all little-endian: version (uint32), name of the architecture
(string), its revision (uint32), number of variables (uint32); each variable is its name (string), rank
(uint8), shape (uint32 each), type (uint8), size in bytes (uint32) and data; then aliases, pairs of strings.
A string is its length with the closing zero (uint16) and its bytes. Quantised variables come out as they
are stored.

Reference: `python/ctranslate2/specs/model_spec.py` of CTranslate2 4, `ModelSpec._serialize`.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

from sensorium.core.errors import CheckpointError

_VERSIONS, _MUCH = (5, 6), 1 << 16
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_model(path: Path, prefixes: Collection[str] = ("",)) -> dict[str, np.ndarray]:
    """Read the variables whose names begin with one of `prefixes`.

    Args:
        path: A `model.bin`.
        prefixes: What is wanted; the rest is skipped without being read.

    Raises:
        CheckpointError: If the file is not of this layout, is cut short, or holds an unknown type.
    """
    try:
        with path.open("rb") as file:
            return _read(file, tuple(prefixes))
    except (struct.error, ValueError, OverflowError, MemoryError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole CTranslate2 model: {error}; fetch it again") from error


def rename_variables(
    state: Mapping[str, Tensor], names: Sequence[tuple[str, str]], owner: str
) -> dict[str, Tensor]:
    """Rename variables by the first pattern that fits, in float32.

    Args:
        state: Variables by their names in the file.
        names: Regular expressions and our names; `{query,key,value}` in ours splits rows into equal parts.
        owner: Whose variables they should be, for the message.

    Raises:
        CheckpointError: If none fits, or a variable is quantised.
    """
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point():
            raise CheckpointError(f"{name} is quantised; convert the model with float16 or float32 weights")
        renamed = _renamed(name, names)
        if renamed is None:
            raise CheckpointError(f"'{name}' is no variable of {owner}")
        parts = _PARTS.search(renamed)
        split = parts[1].split(",") if parts else [""]
        for part, share in zip(split, value.float().chunk(len(split)), strict=True):
            ours[_PARTS.sub(part, renamed)] = share
    return ours


_PARTS = re.compile(r"\{([\w,]+)\}")
_LEAVES = {"gamma": "weight", "beta": "bias"}


def _renamed(name: str, names: Sequence[tuple[str, str]]) -> str | None:
    for pattern, ours in names:
        match = re.fullmatch(pattern, name)
        if match:
            module, dot, leaf = match.expand(ours).rpartition(".")
            return f"{module}{dot}{_LEAVES.get(leaf, leaf)}"
    return None


def _read(file: BinaryIO, prefixes: tuple[str, ...]) -> dict[str, np.ndarray]:
    version = _number(file, "<I")
    if version not in _VERSIONS:
        raise CheckpointError(f"version {version}, expected one of {_VERSIONS}")
    _string(file)
    _number(file, "<I")
    arrays = {}
    for _ in range(_number(file, "<I")):
        name, array = _variable(file, prefixes)
        if array is not None:
            arrays[name] = array
    for _ in range(_number(file, "<I")):
        alias, name = _string(file), _string(file)
        if alias.startswith(prefixes) and name in arrays:
            arrays[alias] = arrays[name]
    return arrays


def _variable(file: BinaryIO, prefixes: tuple[str, ...]) -> tuple[str, np.ndarray | None]:
    name = _string(file)
    shape = tuple(_number(file, "<I") for _ in range(_number(file, "<B")))
    kind, num_bytes = _number(file, "<B"), _number(file, "<I")
    if not name.startswith(prefixes):
        file.seek(num_bytes, 1)
        return name, None
    if kind not in _TYPES:
        raise CheckpointError(f"{name} is of type {kind}, expected one of {sorted(_TYPES)}")
    data = np.frombuffer(_bytes(file, num_bytes), dtype=np.dtype(_TYPES[kind]).newbyteorder("<"))
    return name, data.reshape(shape).copy()


def _string(file: BinaryIO) -> str:
    return _bytes(file, _number(file, "<H"))[:-1].decode("utf-8")


def _number(file: BinaryIO, layout: str) -> int:
    return int(struct.unpack(layout, _bytes(file, struct.calcsize(layout)))[0])


def _bytes(file: BinaryIO, count: int) -> bytes:
    if count > _MUCH and count > os.fstat(file.fileno()).st_size - file.tell():
        raise struct.error(f"{count} bytes expected, fewer left")
    data = file.read(count)
    if len(data) != count:
        raise struct.error(f"{count} bytes expected, {len(data)} left")
    return data
