"""Rank correlations with ties: Kendall's tau-b and Spearman's rho.

In: two sequences of scores of the same things, of equal length. Out: -1 to 1; 0 where one of them is
constant, since it ranks nothing (others return NaN there).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Num

from sensorium.core.errors import UsageError

_BLOCK = 256


def spearman(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " m"]) -> float:
    """Pearson correlation of the ranks, equal values sharing the mean of their ranks.

    Raises:
        UsageError: If the lengths differ or there are fewer than two.

    Example:
        >>> spearman(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4]))
        0.8
    """
    _check(a, b)
    first, second = ranks(a), ranks(b)
    first, second = first - first.mean(), second - second.mean()
    spread = float(np.sqrt((first @ first) * (second @ second)))
    return round(float(first @ second) / spread, 15) if spread > 0 else 0.0


def kendall(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " m"]) -> float:
    """Kendall's tau-b: concordant less discordant pairs, over the pairs that neither ties (geometric mean).

    Pairs are compared in blocks of rows, O(n^2) time and O(n) memory: n is some thousand frames at most.

    Raises:
        UsageError: If the lengths differ or there are fewer than two.

    Reference:
        M. Kendall, The treatment of ties in ranking problems, Biometrika 33 (1945).

    Example:
        >>> round(kendall(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])), 3)
        0.667
    """
    _check(a, b)
    first, second = ranks(a), ranks(b)
    agree, untied_first, untied_second = 0.0, 0.0, 0.0
    for start in range(0, len(first), _BLOCK):
        x = np.sign(first[start : start + _BLOCK, None] - first)
        y = np.sign(second[start : start + _BLOCK, None] - second)
        agree += float(np.vdot(x, y))
        untied_first += float(np.vdot(x, x))
        untied_second += float(np.vdot(y, y))
    spread = float(np.sqrt(untied_first * untied_second))
    return agree / spread if spread > 0 else 0.0


def ranks(values: Num[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Ranks from 1, equal values sharing the mean of theirs.

    Example:
        >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: np.ndarray = (last - (counts - 1) / 2)[places].astype(np.float64)
    return shared


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) != len(b) or len(a) < 2:
        raise UsageError(f"{len(a)} and {len(b)} scores; expected two or more of the same things")
