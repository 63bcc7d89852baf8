"""Reads the weights of a CTranslate2 `model.bin` without CTranslate2.

Input: the file. Output: arrays by name; quantised variables are returned as stored. Layout, little-endian:
version (uint32), architecture (string), revision (uint32), number of variables (uint32); for each variable
name (string), rank (uint8), shape (uint32 each), type (uint8), size in bytes (uint32) and data; then aliases,
pairs of strings. A string is its length including the final zero (uint16), then its bytes.

Reference: `python/ctranslate2/specs/model_spec.py` of CTranslate2 4, `ModelSpec._serialize`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sensorium.core.errors import CheckpointError

_VERSIONS, _MUCH = (5, 6), 1 << 16
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_model(path: Path, prefixes: Collection[str] = ("",)) -> dict[str, np.ndarray]:
    """Read variables with one of the prefixes; raises `CheckpointError` if the file is not supported."""
    try:
        with path.open("rb") as file:
            return _read(file, tuple(prefixes))
    except (struct.error, ValueError, OverflowError, MemoryError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole CTranslate2 model: {error}; fetch it again") from error


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
