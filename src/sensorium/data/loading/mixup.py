"""Blending: a picture drawn over another of its group, so that what both show counts and no one's style.

In: which rows belong together, and a place in training. Out: whether a row's picture is mixed, with which
row's and how far. Reference: mixup (arXiv:1710.09412), here among pictures of one meaning: the label stays.
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
    """Another row, and its share of the mixed picture.

    Attributes:
        row: Row number.
        share: In 0..1; the row itself keeps the rest.
    """

    row: int
    share: float


@dataclass(frozen=True)
class Mixup:
    """Who is mixed with whom.

    Attributes:
        chance: That a row's picture is mixed, where its group has another row.
        rows: Rows that may be taken.
        codes: Group number of each row there is.
    """

    chance: float
    rows: Int64[np.ndarray, " n"]
    codes: Int64[np.ndarray, " m"]
    _groups: Mapping[int, Int64[np.ndarray, " p"]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1:
            raise UsageError(f"mixup={self.chance} is not a chance; give 0 to 1")
        rows = np.unique(self.rows)
        ordered = rows[np.argsort(self.codes[rows], kind="stable")]
        bounds = np.flatnonzero(np.diff(self.codes[ordered])) + 1
        groups = {int(self.codes[part[0]]): part for part in np.split(ordered, bounds) if len(part)}
        object.__setattr__(self, "_groups", groups)

    def partner(self, seed: int, epoch: int, row: int) -> Partner | None:
        """The partner of a row in an epoch, or None where the picture stays as it is."""
        group = self._groups.get(int(self.codes[row]), self.rows[:0])
        others = group[group != row]
        rng = random_stream(seed, epoch, row, "image", 1)
        if len(others) == 0 or rng.random() >= self.chance:
            return None
        return Partner(int(rng.choice(others)), float(rng.random()))
