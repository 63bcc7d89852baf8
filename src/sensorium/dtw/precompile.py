"""Compile every kernel of time warping ahead of its first use."""

from __future__ import annotations

import numpy as np

from sensorium.core.jit import usable
from sensorium.dtw.pairwise import dtw_matrix
from sensorium.dtw.warping import dtw


def warm_up() -> bool:
    """Compile and keep on disk what `dtw` and its relatives run, for float32 and float64.

    Takes some seconds the first time on a machine, then none. Call it when a server starts or an image
    is built. Without it, each kernel is compiled at its first use.

    Returns:
        Whether there is machine code; False where numba does not work and PyTorch stands in.
    """
    if not usable():
        return False
    for dtype in (np.float32, np.float64):
        line, wide = np.arange(7, dtype=dtype), np.arange(91, dtype=dtype).reshape(7, 13)
        for metric in ("sqeuclidean", "cityblock"):
            dtw(wide, wide, metric=metric, window=2, path=False)
        for step in ("symmetric1", "asymmetric"):
            dtw(wide, wide, step=step)
        dtw(line, line, path=False)
        dtw_matrix([line, line], window=2, max_distance=1.0)
    return True
