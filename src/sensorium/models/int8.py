"""Int8 quantisation of the weights in a checkpoint file, with one scale per row.

    w_ij ~ s_i q_ij,   s_i = max_j |w_ij| / 127,   q_ij from -127 to 127

Input: tensors by name. Output: each large matrix or filter bank as int8 `q`, with its scales under the name
plus `.scale`; all other floating tensors as float16. The error of a weight is at most s_i / 2. Models compute
with the dequantised weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_SCALE = ".scale"
_LEAST_SIZE = 1024
"""Smaller tensors are not quantised: they save no space, and norms and biases need the precision."""
_LEVELS = 127


def quantise(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert large tensors to int8 and other floating tensors to float16; integers stay.

    Example:
        >>> sorted(quantise({"a": torch.ones(40, 30), "b": torch.ones(3)}))
        ['a', 'a.scale', 'b']
    """
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            made[name] = tensor
        elif tensor.ndim < 2 or tensor.numel() < _LEAST_SIZE:
            made[name] = tensor.half()
        else:
            rows = tensor.float().flatten(1)
            scale = (rows.abs().amax(1) / _LEVELS).clamp_min(torch.finfo(torch.half).tiny).half()
            whole = (rows / scale.float()[:, None]).round().clamp(-_LEVELS, _LEVELS)
            made[name], made[name + _SCALE] = whole.to(torch.int8).view_as(tensor), scale
    return made


def dequantise(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Invert `quantise` up to rounding; tensors that are not quantised stay as they are."""
    made = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8 and name + _SCALE in tensors:
            scale = made.pop(name + _SCALE).float()
            made[name] = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
    return made
