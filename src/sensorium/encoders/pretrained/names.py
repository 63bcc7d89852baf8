"""Renames the parameters of published checkpoints to the names of this project's layers.

Input: names, and a map of regular expressions to our names. Output: our names, or a `CheckpointError` for a
name that no expression matches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from sensorium.core.errors import CheckpointError

NameMap = Sequence[tuple[str, str]]
"""Pairs of a regular expression and our name with group references; the first that matches counts."""


def rename(name: str, names: NameMap, owner: str) -> str:
    """Return our name of a parameter of `owner`; raises `CheckpointError` if no expression matches."""
    for pattern, ours in names:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(ours)
    raise CheckpointError(f"'{name}' is no parameter of {owner}")


def rename_variables(state: Mapping[str, Tensor], names: NameMap, owner: str) -> dict[str, Tensor]:
    """Rename the variables of a CTranslate2 model and convert them to float32.

    `{query,key,value}` in our name splits the rows into equal parts. Raises `CheckpointError` if no
    expression matches a name, or a variable is quantised.
    """
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point():
            raise CheckpointError(f"{name} is quantised; convert the model with float16 or float32 weights")
        module, dot, leaf = rename(name, names, owner).rpartition(".")
        renamed = f"{module}{dot}{_LEAVES.get(leaf, leaf)}"
        parts = _PARTS.search(renamed)
        split = parts[1].split(",") if parts else [""]
        for part, share in zip(split, value.float().chunk(len(split)), strict=True):
            ours[_PARTS.sub(part, renamed)] = share
    return ours


_PARTS = re.compile(r"\{([\w,]+)\}")
_LEAVES = {"gamma": "weight", "beta": "bias"}
