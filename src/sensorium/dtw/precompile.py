"""Compiles every DTW kernel ahead of its first use."""

from __future__ import annotations

import numpy as np

from sensorium.core.jit import usable
from sensorium.dtw.pairwise import dtw_matrix
from sensorium.dtw.warping import dtw


def warm_up() -> bool:
    """Compile the kernels of `dtw` and related functions for float32 and float64, and cache them on disk.

    The first call on a machine takes some seconds. Call it when a server starts or an image is built;
    otherwise each kernel is compiled at its first use.

    Returns:
        True if numba kernels are available; False if PyTorch is used instead.
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
