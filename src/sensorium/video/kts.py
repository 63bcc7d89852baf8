"""Kernel temporal segmentation (KTS): finds change points of a sequence of vectors.

The segments minimise the scatter of the vectors about their means, exactly, by dynamic programming. A penalty
selects the number of segments.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from sensorium.core.errors import UsageError


def kts(
    features: Float[np.ndarray, "n D"],
    *,
    max_changes: int,
    penalty: float = 1.0,
    num_changes: int | None = None,
) -> Int64[np.ndarray, " changes"]:
    """Segment a sequence with the linear kernel.

    Minimises sum of scatter over segments / n + penalty * m / (2 n) * (log(n / m) + 1) over the number of
    changes m and their places.

    Args:
        features: (n, D); rows of length 1 make the kernel the cosine.
        max_changes: Most changes; at most n - 1 are used.
        penalty: Larger gives fewer segments (`vmax` of the reference code).
        num_changes: Exact number of changes; the penalty is then ignored.

    Returns:
        Ascending: at which rows a new segment begins (0 is not among them).

    Raises:
        UsageError: If there is no row, or fewer rows than changes asked for.

    Reference:
        D. Potapov et al., Category-specific video summarization, ECCV 2014, section 3.2. O(max_changes n^2)
        time, O(n^2) memory.

    Example:
        >>> features = np.repeat(np.eye(3), [4, 2, 5], axis=0)
        >>> kts(features, max_changes=5, penalty=0.1).tolist()
        [4, 6]
    """
    n = len(features)
    if n == 0 or (num_changes is not None and not 0 <= num_changes < n):
        raise UsageError(f"{num_changes} changes in {n} rows; expected at least one row more than changes")
    most = min(max_changes if num_changes is None else num_changes, n - 1)
    costs, cuts = _best_costs(_scatters(features), most)
    if num_changes is None:
        m = np.arange(1, most + 1)
        penalties = np.concatenate([[0.0], penalty * m / (2 * n) * (np.log(n / m) + 1)])
        num_changes = int(np.argmin(costs[:, n] / n + penalties))
    changes: list[int] = []
    end = n
    for m_left in range(num_changes, 0, -1):
        end = int(cuts[m_left, end])
        changes.append(end)
    return np.array(changes[::-1], np.int64)


def _scatters(features: Float[np.ndarray, "n D"]) -> Float64[np.ndarray, "k k"]:
    """Entry (i, j): sum of squared distances of rows i..j-1 from their mean; infinite where i >= j."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    sums = np.concatenate([np.zeros((1, features.shape[1])), np.cumsum(centred, axis=0)])
    squares = np.concatenate([[0.0], np.cumsum((centred**2).sum(axis=1))])
    gram = sums @ sums.T
    norms = np.diag(gram)
    lengths = np.arange(len(sums))[None] - np.arange(len(sums))[:, None]
    of_sums = norms[:, None] + norms[None] - 2 * gram
    scatter = (squares[None] - squares[:, None]) - of_sums / np.maximum(lengths, 1)
    return np.where(lengths > 0, np.maximum(scatter, 0.0), np.inf)


def _best_costs(
    scatter: Float64[np.ndarray, "k k"], most: int
) -> tuple[Float64[np.ndarray, "m k"], Int64[np.ndarray, "m k"]]:
    """Least total scatter of the first rows with m changes, and where the last change is."""
    costs = np.full((most + 1, len(scatter)), np.inf)
    cuts = np.zeros((most + 1, len(scatter)), np.int64)
    costs[0] = scatter[0]
    for m in range(1, most + 1):
        totals = costs[m - 1][:, None] + scatter
        cuts[m] = np.argmin(totals, axis=0)
        costs[m] = totals[cuts[m], np.arange(len(scatter))]
    return costs, cuts
