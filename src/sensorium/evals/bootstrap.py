"""Percentile bootstrap intervals of a mean over queries.

Input: one value for each query, optionally the group of each. Output: the mean and an interval.

Reference: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from sensorium.core.errors import UsageError

_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, from `low` to `high`."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    *,
    groups: Int64[np.ndarray, " n"] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the mean; the same seed gives the same interval.

    Args:
        values: One for each query; True counts as 1, False as 0.
        groups: Dependent queries (captions of one image, views of one object) share a group number and are
            resampled together, which widens the interval. None: queries are independent.
        confidence: Share of the resampled means within the interval, in (0, 1).
        num_resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Raises:
        UsageError: If there is no value, the groups do not fit or the confidence is out of range.

    Example:
        >>> bootstrap_interval(np.array([True, True, False, True]), seed=1)
        Interval(mean=0.75, low=0.25, high=1.0)
    """
    if len(values) == 0:
        raise UsageError("no values to resample; got an empty array")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence={confidence}; expected a share within (0, 1), e.g. 0.95")
    if groups is not None and len(groups) != len(values):
        raise UsageError(f"{len(groups)} group numbers for {len(values)} values; expected one for each")
    _, unit = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
    sums = np.bincount(unit, weights=values.astype(np.float64))
    counts = np.bincount(unit).astype(np.float64)
    means = _resampled_means(sums, counts, num_resamples, np.random.default_rng(seed))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(np.mean(values)), float(low), float(high))


def _resampled_means(
    sums: Float[np.ndarray, " u"],
    counts: Float[np.ndarray, " u"],
    num_resamples: int,
    draws: np.random.Generator,
) -> Float[np.ndarray, " r"]:
    """Mean of each bootstrap sample: all units, drawn with replacement."""
    means = np.empty(num_resamples)
    step = max(1, _DRAWS_AT_ONCE // len(sums))
    for low in range(0, num_resamples, step):
        chosen = draws.integers(0, len(sums), (min(step, num_resamples - low), len(sums)))
        means[low : low + step] = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    return means
