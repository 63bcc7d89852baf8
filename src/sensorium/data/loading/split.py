"""Train/test split by group: rows of one group (a caption, an album) are never divided.

A hash of the seed and the group's name assigns the group, so adding rows does not move earlier ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import UsageError


def split(groups: Sequence[str], *, test: float, seed: int) -> dict[str, Int64[np.ndarray, " n"]]:
    """Split rows into `train` and `test`.

    Args:
        groups: Group of each row (`Table.groups`).
        test: Expected share of the groups in `test`, 0 <= test < 1; not exact.
        seed: Seed of the hash.

    Returns:
        `{"train": rows, "test": rows}`, both ascending.

    Raises:
        UsageError: If `test` is out of range.

    Example:
        >>> parts = split(["frog", "hat", "frog", "sun"], test=0.5, seed=1)
        >>> sorted(parts["train"].tolist() + parts["test"].tolist())
        [0, 1, 2, 3]
        >>> bool(np.isin(0, parts["test"])) == bool(np.isin(2, parts["test"]))
        True
    """
    if not 0 <= test < 1:
        raise UsageError(f"test={test} is out of range; expected 0 <= test < 1, e.g. 0.2")
    chosen = {group: _uniform(seed, group) < test for group in set(groups)}
    is_test = np.array([chosen[group] for group in groups], dtype=bool)
    return {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}


def _uniform(seed: int, group: str) -> float:
    """Number in [0, 1) by a hash of the seed and the group."""
    digest = hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
