"""Distances of many pairs of series.

In: a list of series, or two. Out: the matrix of their DTW distances, each as `dtw` gives it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from sensorium.align.metrics import Metric, Series
from sensorium.align.steps import StepPattern
from sensorium.align.warping import dtw
from sensorium.align.windows import Window
from sensorium.core.errors import UsageError


def dtw_matrix(
    series: Sequence[Series],
    others: Sequence[Series] | None = None,
    *,
    metric: Metric = "euclidean",
    window: Window = None,
    step: str | StepPattern = "symmetric1",
) -> Float64[np.ndarray, "n k"]:
    """Distances of every series with every other, lengths as they come.

    >>> dtw_matrix([[0.0, 1.0], [0.0, 0.0, 1.0], [2.0, 3.0]])[0].tolist()
    [0.0, 0.0, 3.0]

    Args:
        series: n series, each (T,) or (T, D), or an array (n, T) or (n, T, D).
        others: k series to compare them with; None compares them among themselves.
        metric: As in `dtw`.
        window: As in `dtw`; a mask fits only series of equal lengths.
        step: As in `dtw`.

    Raises:
        UsageError: As `dtw`, and if there are no series.
    """
    if len(series) == 0 or (others is not None and len(others) == 0):
        raise UsageError("there are no series to compare; give one at least")

    def distance(x: Series, y: Series) -> float:
        return dtw(x, y, metric=metric, window=window, step=step, path=False).distance

    return np.array([[distance(x, y) for y in others or series] for x in series])
