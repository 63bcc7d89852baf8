"""Reads and checks tensors of a file: complete, floating and finite.

Input: safetensors files, or tensors by name. Output: the tensors, or a `CheckpointError` that names the first
bad one. Does not know models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sensorium.core.errors import CheckpointError

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_READ_ERRORS = (
    SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError,
)  # fmt: skip
"""Errors that safetensors raises for damaged headers and for types that torch lacks."""


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors and the metadata of a file; raises `CheckpointError` if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata
    except _READ_ERRORS as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {one_line(error)}; fetch it again"
        ) from error


def check_floating(tensors: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` for integers and floats under 16 bits: the file lacks their scales."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"'{name}' has type {kind}; expected float32, float16, bfloat16 or float64")


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity; raises `CheckpointError` for the first such tensor."""
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise CheckpointError(f"'{name}' holds NaN or infinity; fetch or train the model again")


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite; one pass without a copy."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = tensor.detach().aminmax()  # NaN goes through both
    return bool(low > -torch.inf) and bool(high < torch.inf)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(error).split())
