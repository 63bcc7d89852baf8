"""Rank correlations with ties: Spearman's rho and Kendall's tau-b, by scipy.

Input: two sequences of scores of the same items. Output: a correlation in -1..1; 0 if one of the sequences is
constant, where scipy returns NaN.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Num

from sensorium.core.errors import UsageError
from sensorium.core.runtime import require


def spearman(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " m"]) -> float:
    """Spearman's rho: Pearson correlation of the ranks; ties share their mean rank.

    Raises:
        UsageError: If the lengths differ or there are fewer than two.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> round(spearman(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])), 3)
        0.8
    """
    return _correlation("spearmanr", a, b)


def kendall(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " m"]) -> float:
    """Kendall's tau-b; raises as `spearman` does.

    Example:
        >>> round(kendall(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])), 3)
        0.667
    """
    return _correlation("kendalltau", a, b)


def ranks(values: Num[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Ranks from 1; ties share their mean rank.

    Example:
        >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[places].astype(np.float64)
    return shared


def _correlation(name: str, a: np.ndarray, b: np.ndarray) -> float:
    if len(a) != len(b) or len(a) < 2:
        raise UsageError(f"{len(a)} and {len(b)} scores; expected two or more of the same items")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return round(float(getattr(require("scipy.stats", "evals"), name)(a, b).statistic), 15)
