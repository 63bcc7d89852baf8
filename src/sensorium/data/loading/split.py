"""Train and test rows by group: things that belong together (one caption, one source) never part.

Whether a group is tested depends on the seed and its name alone, so adding rows moves none of the old ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import UsageError


def split(groups: Sequence[str], *, test: float, seed: int) -> dict[str, Int64[np.ndarray, " n"]]:
    """Divide rows into `train` and `test`.

    Args:
        groups: Group of each row (`Table.groups`).
        test: Share of the groups to hold out, 0 <= test < 1; met in the mean, not exactly.
        seed: Another seed holds out other groups.

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
        raise UsageError(f"test={test} is not a share; give 0 <= test < 1, as in 0.2")
    chosen = {group: _uniform(seed, group) < test for group in set(groups)}
    is_test = np.array([chosen[group] for group in groups], dtype=bool)
    return {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}


def _uniform(seed: int, group: str) -> float:
    """Number in [0, 1) that depends on the seed and the group only."""
    digest = hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
