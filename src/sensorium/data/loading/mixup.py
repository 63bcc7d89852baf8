"""Mixup within groups: decides which images are mixed with another image of the same group.

Input: the group of each row, and (seed, epoch, row). Output: the partner row and its weight, or None.
Reference: mixup (arXiv:1710.09412). Here both images belong to one group, so the label does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import UsageError
from sensorium.data.loading.order import random_stream


@dataclass(frozen=True)
class Partner:
    """The row to mix with, and its weight in 0..1; the row itself has weight 1 - `weight`."""

    row: int
    weight: float


@dataclass(frozen=True)
class Mixup:
    """Chooses a partner for each row.

    Attributes:
        probability: Probability that a row is mixed if its group has another row, 0..1.
        rows: Rows that may be partners.
        codes: Group number of each row of the tables.
    """

    probability: float
    rows: Int64[np.ndarray, " n"]
    codes: Int64[np.ndarray, " m"]
    _groups: Mapping[int, Int64[np.ndarray, " p"]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise UsageError(f"mixup={self.probability} is not a probability; expected 0 to 1")
        rows = np.unique(self.rows)
        ordered = rows[np.argsort(self.codes[rows], kind="stable")]
        bounds = np.flatnonzero(np.diff(self.codes[ordered])) + 1
        groups = {int(self.codes[part[0]]): part for part in np.split(ordered, bounds) if len(part)}
        object.__setattr__(self, "_groups", groups)

    def partner(self, seed: int, epoch: int, row: int) -> Partner | None:
        """The partner of a row in an epoch, or None if the image is not mixed."""
        group = self._groups.get(int(self.codes[row]), self.rows[:0])
        others = group[group != row]
        rng = random_stream(seed, epoch, row, "image", 1)
        if len(others) == 0 or rng.random() >= self.probability:
            return None
        return Partner(int(rng.choice(others)), float(rng.random()))
