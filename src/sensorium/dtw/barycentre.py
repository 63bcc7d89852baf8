"""DTW barycentres: averages of time-shifted series, exact (DBA) and soft.

Input: series (n_k, D) of any lengths, and weights. Output: the series with the least mean DTW distance to
them. A frame-wise mean flattens shifted peaks; a barycentre keeps them. Both searches find a local minimum,
so the initial series matters. The default is the medoid, as Petitjean et al. advise.

Reference: DBA: Petitjean, Ketterlin and Gancarski 2011, Pattern Recognition 44(3). Soft: Cuturi and Blondel
2017 (arXiv 1703.01541), section 3; debiased: Blondel, Mensch and Vert 2021 (arXiv 2010.08354).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sensorium.core.errors import UsageError
from sensorium.dtw.metrics import Series, as_series
from sensorium.dtw.pairwise import dtw_matrix
from sensorium.dtw.scaling import exponent_of, scaled
from sensorium.dtw.soft_warping import soft_dtw, soft_dtw_divergence
from sensorium.dtw.warping import dtw
from sensorium.dtw.windows import Window

MOST_EXPONENT = 900
"""Values beyond this power of two are scaled before summation."""


@dataclass(frozen=True)
class Barycentre:
    """A barycentre and the history of its cost.

    Attributes:
        values: The average series, (L, D).
        costs: Weighted mean distance to the series, at the start and after each decrease; the last belongs to
            `values`.
        has_converged: Whether the search reached its tolerance before the iteration limit.
    """

    values: Float64[np.ndarray, "L D"]
    costs: tuple[float, ...]
    has_converged: bool


def dtw_barycentre(
    series: Sequence[Series],
    *,
    weights: Sequence[float] | Float[np.ndarray, " K"] | None = None,
    init: Series | str = "medoid",
    length: int | None = None,
    window: Window = None,
    iterations: int = 30,
    tolerance: float = 1e-6,
) -> Barycentre:
    """DTW barycentre averaging (DBA): each frame becomes the mean of all frames that are aligned with it.

    Alignment and averaging alternate. The cost, the weighted mean squared-Euclidean DTW distance, never
    increases and converges in finitely many iterations.

    Args:
        series: K series, (n_k, D) or (n_k,), of any lengths.
        weights: One per series, >= 0; only ratios matter. None: equal weights.
        init: Initial average: `medoid`, `mean` (frame-wise, after resampling to one length), or a series.
        length: Frames L of the average; None: length of the initial series, or of the longest for `mean`.
        window: As for `dtw`, between the average and each series.
        iterations: Maximum number of iterations, >= 1.
        tolerance: Stop if the relative decrease of the cost is at most this.

    Raises:
        UsageError: If series, weights or `init` do not match, or an option is out of range.

    Example:
        >>> early, late = [0.0, 4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 4.0, 0.0]
        >>> dtw_barycentre([early, late]).values.ravel().tolist()  # the mean would be 0, 2, 0, 2, 0
        [0.0, 4.0, 0.0, 0.0, 0.0]
    """
    bundle = _Bundle.of(series, weights, iterations, tolerance)
    average = bundle.start(init, length, window)
    costs: list[float] = []
    while True:
        cost, following = _averaged(average, bundle, window)
        costs.append(cost)
        has_converged = len(costs) > 1 and costs[-2] - cost <= tolerance * costs[-2]
        if has_converged or len(costs) > iterations:
            return Barycentre(average, tuple(costs), has_converged)
        average = following


def soft_dtw_barycentre(
    series: Sequence[Series],
    *,
    gamma: float = 1.0,
    debiased: bool = False,
    weights: Sequence[float] | Float[np.ndarray, " K"] | None = None,
    init: Series | str = "medoid",
    length: int | None = None,
    window: Window = None,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> Barycentre:
    """Series with the least mean soft-DTW to all others, found by L-BFGS.

    It is smoother than DBA's average and has fewer poor minima. Costs may be negative. Arguments are those of
    `dtw_barycentre`, and `gamma` that of `soft_dtw`. `debiased` minimises `soft_dtw_divergence`, which does
    not favour flat averages at large gamma. An iteration may need several evaluations. The search stops if
    the cost decreases by at most `tolerance` times the initial cost, or no value changes by more than
    `tolerance` times the series' standard deviation.

    Raises:
        UsageError: As for `dtw_barycentre`, and for `gamma`.

    Example:
        >>> early, late = [0.0, 4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 4.0, 0.0]
        >>> soft_dtw_barycentre([early, late], gamma=0.1).values.max().round(1).item()
        4.0
    """
    bundle = _Bundle.of(series, weights, iterations, tolerance)
    start = torch.from_numpy(bundle.start(init, length, window))
    padded = pad_sequence([torch.from_numpy(one) for one in bundle.series], batch_first=True)
    lengths = (None, [len(one) for one in bundle.series])
    shares, distance = torch.from_numpy(bundle.weights), soft_dtw_divergence if debiased else soft_dtw
    # Scaled by the series' standard deviation and the first cost, so that tolerances are relative.
    spread = max(float(np.concatenate(bundle.series).std()), 1e-30)
    moves = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [moves],
        max_iter=iterations,
        max_eval=25 * iterations,
        line_search_fn="strong_wolfe",
        tolerance_change=tolerance,
    )
    costs: list[float] = []
    best = start

    def closure() -> Tensor:
        nonlocal best
        optimizer.zero_grad()
        average = start + spread * moves
        copies = average.expand(len(padded), -1, -1)
        cost = shares @ distance(copies, padded, gamma=gamma, lengths=lengths, window=window)
        if not costs or float(cost.detach()) < costs[-1]:  # the line search also evaluates worse points
            costs.append(float(cost.detach()))
            best = average.detach()
        scaled = cost / max(abs(costs[0]), 1e-30)
        scaled.backward()
        return scaled

    optimizer.step(closure)
    has_converged = optimizer.state[moves]["n_iter"] < iterations
    return Barycentre(best.numpy(), tuple(costs), has_converged)


def _averaged(
    average: Float64[np.ndarray, "L D"], bundle: _Bundle, window: Window
) -> tuple[float, Float64[np.ndarray, "L D"]]:
    """Cost of an average, and the mean of the frames aligned with each of its frames."""
    cost, sums, counts = 0.0, np.zeros_like(average), np.zeros((len(average), 1))
    shift = max(0, exponent_of(*bundle.series) - MOST_EXPONENT)
    for one, weight in zip(bundle.series, bundle.weights, strict=True):
        found = dtw(average, one, metric="sqeuclidean", window=window)
        assert found.path is not None
        i, j = found.path.T
        cost += float(weight) * found.distance
        np.add.at(sums, i, weight * scaled(one, shift)[j])
        np.add.at(counts, i, weight)
    return cost, scaled(sums / counts, -shift)


@dataclass(frozen=True)
class _Bundle:
    """Validated series with weights that sum to 1."""

    series: list[Float64[np.ndarray, "_ D"]]
    weights: Float64[np.ndarray, " K"]

    @classmethod
    def of(
        cls,
        series: Sequence[Series],
        weights: Sequence[float] | Float[np.ndarray, " K"] | None,
        iterations: int,
        tolerance: float,
    ) -> _Bundle:
        if len(series) == 0:
            raise UsageError("there are no series to average; give one at least")
        if iterations < 1 or not tolerance >= 0:
            raise UsageError(f"iterations={iterations}, tolerance={tolerance}; expected at least 1 and 0")
        checked = [as_series(f"series[{place}]", one).astype(np.float64) for place, one in enumerate(series)]
        for place, one in enumerate(checked):
            if one.shape[1] != checked[0].shape[1]:
                raise UsageError(
                    f"series[{place}] has width {one.shape[1]}, series[0] {checked[0].shape[1]}; must agree"
                )
        return cls(checked, _shares(weights, len(checked)))

    def start(self, init: Series | str, length: int | None, window: Window) -> Float64[np.ndarray, "L D"]:
        """The initial average."""
        if length is not None and length < 1:
            raise UsageError(f"length={length}; expected at least 1 frame, or None")
        if isinstance(init, str):
            if init not in ("medoid", "mean"):
                raise UsageError(f"init '{init}' is not known; use medoid, mean or a series")
            start = self._medoid(window) if init == "medoid" else self._mean(length)
        else:
            start = as_series("init", init).astype(np.float64)
            if start.shape[1] != self.series[0].shape[1]:
                raise UsageError(
                    f"init has width {start.shape[1]}, the series {self.series[0].shape[1]}; they must agree"
                )
        return start.copy() if length in (None, len(start)) else _stretch(start, length or len(start))

    def _medoid(self, window: Window) -> Float64[np.ndarray, "L D"]:
        distances = dtw_matrix(self.series, metric="sqeuclidean", window=window)
        return self.series[int((distances @ self.weights).argmin())]

    def _mean(self, length: int | None) -> Float64[np.ndarray, "L D"]:
        frames = length if length is not None else max(len(one) for one in self.series)
        stretched = np.stack([_stretch(one, frames) for one in self.series])
        mean: Float64[np.ndarray, "L D"] = np.einsum("k,kld->ld", self.weights, stretched)
        return mean


def _shares(weights: Sequence[float] | np.ndarray | None, count: int) -> Float64[np.ndarray, " K"]:
    if weights is None:
        return np.full(count, 1 / count)
    found = np.asarray(weights, dtype=np.float64)
    total = float(found.sum())
    if found.shape != (count,) or not (found >= 0).all() or not 0 < total < math.inf:
        raise UsageError(f"weights {found.tolist()[:8]}; expected {count} numbers >= 0, not all of them 0")
    return found / total


def _stretch(series: Float64[np.ndarray, "n D"], length: int) -> Float64[np.ndarray, "L D"]:
    """Resample to another number of frames by linear interpolation; end frames are kept."""
    places = np.linspace(0, len(series) - 1, length)
    shift = max(0, exponent_of(series) - MOST_EXPONENT)
    axes = [np.interp(places, np.arange(len(series)), axis) for axis in scaled(series, shift).T]
    return scaled(np.stack(axes, axis=1), -shift)
