"""Weights in a quarter of their room: a whole number of eight bits each, and a scale for every row.

    w_ij ~ s_i q_ij,   s_i = max_j |w_ij| / 127,   q_ij from -127 to 127

In: tensors by name. Out: the same, each large matrix (or filter bank) among them as its numbers `q` and,
under the name with `.scale` behind it, its scales; everything else in half precision. A weight moves by half
a scale at most. For files alone: models compute with what `unpacked` gives back.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_SCALE = ".scale"
_FROM = 1024
"""Smaller tensors stay as they are: they weigh nothing, and norms and biases want their digits."""
_LEVELS = 127


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put large tensors into eight bits, the others into half precision; whole numbers stay.

    Example:
        >>> sorted(packed({"a": torch.ones(40, 30), "b": torch.ones(3)}))
        ['a', 'a.scale', 'b']
    """
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            made[name] = tensor
        elif tensor.ndim < 2 or tensor.numel() < _FROM:
            made[name] = tensor.half()
        else:
            rows = tensor.float().flatten(1)
            scale = (rows.abs().amax(1) / _LEVELS).clamp_min(torch.finfo(torch.half).tiny).half()
            whole = (rows / scale.float()[:, None]).round().clamp(-_LEVELS, _LEVELS)
            made[name], made[name + _SCALE] = whole.to(torch.int8).view_as(tensor), scale
    return made


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give back what `packed` was given, to half a scale; tensors that were never packed stay as they are."""
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        scale = tensors.get(name + _SCALE)
        if scale is not None and tensor.dtype == torch.int8:
            made[name] = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
        elif not _is_scale(name, tensors):
            made[name] = tensor
    return made


def _is_scale(name: str, tensors: Mapping[str, Tensor]) -> bool:
    of = tensors.get(name.removesuffix(_SCALE)) if name.endswith(_SCALE) else None
    return of is not None and of.dtype == torch.int8
