"""Batches of pairs for soft-DTW: validates input and dispatches to numba or PyTorch.

Input: padded tensors, lengths, a window, gamma. Output: values and gradients in float64. On the CPU
`soft_kernels` computes them; on a GPU or without numba, `soft_plain`. Autograd is handled in `soft_warping`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.core.jit import usable
from sensorium.dtw import soft_plain
from sensorium.dtw.windows import Ranges, Window, impossible, ranges

if TYPE_CHECKING:
    from sensorium.dtw.soft_kernels import Diagonals

Lengths: TypeAlias = Sequence[int] | Int[Tensor, " B"] | Int[np.ndarray, " B"] | None
Gradients: TypeAlias = tuple[Tensor, ...] | None
Results: TypeAlias = tuple[Float64[Tensor, " B"], Gradients]
_Found: TypeAlias = tuple[float, tuple[np.ndarray, ...]]
"""Value and gradients of a pair."""

GREATEST = 1e100
"""Beyond this size, squares and their sums could leave the range of float64."""
LEAST_GAMMA = 1e-290
"""Its reciprocal is a number, and even that times `FAR` is far from any cost."""


@dataclass(frozen=True)
class Pairs:
    """Shapes and options of a batch of pairs.

    Attributes:
        shape: Padded lengths (n, m).
        lengths: Valid frames of each series of x, and of y.
        gamma: Smoothing, > 0.
        window: As for `dtw`.
    """

    shape: tuple[int, int]
    lengths: tuple[list[int], list[int]]
    gamma: float
    window: Window

    @classmethod
    def of_series(
        cls, x: Tensor, y: Tensor, gamma: float, lengths: tuple[Lengths, Lengths] | None, window: Window
    ) -> Pairs:
        """Pairs of two padded batches.

        Raises:
            UsageError: If shapes or types disagree, a value is not finite, or an option is out of range.
        """
        shapes = f"x {tuple(x.shape)} and y {tuple(y.shape)}"
        if x.ndim != 3 or y.ndim != 3 or len(x) != len(y) or x.shape[2] != y.shape[2]:
            raise UsageError(f"{shapes}; expected (B, n, D) and (B, m, D): x[None] is a batch of one series")
        if x.dtype != y.dtype or x.device != y.device:
            raise UsageError(f"x is {x.dtype} on {x.device}, y {y.dtype} on {y.device}; make them agree")
        pairs = cls.of_shape(len(x), x.shape[1], y.shape[1], gamma, lengths, window)
        pairs._check_finite("x", x, pairs.mask(0, x.device)[..., None])
        pairs._check_finite("y", y, pairs.mask(1, y.device)[..., None])
        return pairs

    @classmethod
    def of_costs(
        cls, costs: Tensor, gamma: float, lengths: tuple[Lengths, Lengths] | None, window: Window
    ) -> Pairs:
        """Pairs of a padded batch of matrices of costs; UsageError as for `of_series`."""
        if costs.ndim != 3:
            raise UsageError(f"costs of shape {tuple(costs.shape)}; expected (B, n, m)")
        batch, n, m = costs.shape
        pairs = cls.of_shape(batch, n, m, gamma, lengths, window)
        is_real = pairs.mask(0, costs.device)[:, :, None] & pairs.mask(1, costs.device)[:, None]
        pairs._check_finite("costs", costs, is_real)
        return pairs

    @classmethod
    def of_shape(
        cls, batch: int, n: int, m: int, gamma: float, lengths: tuple[Lengths, Lengths] | None, window: Window
    ) -> Pairs:
        """Pairs from sizes only, without values."""
        if n < 1 or m < 1:
            raise UsageError(f"series of {n} and {m} frames; expected at least one each")
        if not 0 < gamma < math.inf:
            raise UsageError(f"gamma={gamma}; expected a finite number > 0, e.g. 1e-3 for nearly exact DTW")
        if not LEAST_GAMMA <= gamma <= 1 / LEAST_GAMMA:
            raise UsageError(
                f"gamma={gamma} is beyond what float64 can work with; give {LEAST_GAMMA:g} to "
                f"{1 / LEAST_GAMMA:g}, or scale the series"
            )
        if lengths is not None and (not isinstance(lengths, tuple) or len(lengths) != 2):
            raise UsageError(
                "lengths; expected a pair (lengths of x, lengths of y), either of them None for all"
            )
        of_x, of_y = (None, None) if lengths is None else lengths
        return cls((n, m), (_lengths("x", of_x, batch, n), _lengths("y", of_y, batch, m)), gamma, window)

    def of_one(self, side: int) -> Pairs:
        """The series of one side (0: x, 1: y), each paired with itself."""
        return Pairs((self.shape[side],) * 2, (self.lengths[side],) * 2, self.gamma, self.window)

    def mask(self, side: int, device: torch.device) -> Bool[Tensor, "B N"]:
        """True = a real frame of that side."""
        lengths = torch.tensor(self.lengths[side], device=device, dtype=torch.int64)
        return torch.arange(self.shape[side], device=device) < lengths[:, None]

    def of_distances(
        self, x: Float[Tensor, "B n D"], y: Float[Tensor, "B m D"], *, with_gradients: bool
    ) -> Results:
        """Soft-DTW of squared Euclidean costs, with the gradients for x and y; on the series' device."""
        if not x.is_cuda and usable():
            return self._distances_by_kernels(x, y, with_gradients)
        # Padding is never read, because 0 * NaN is NaN.
        x = x.double().masked_fill(~self.mask(0, x.device)[..., None], 0)
        y = y.double().masked_fill(~self.mask(1, y.device)[..., None], 0)
        costs = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
        values, visits = self._plain(costs, with_gradients)
        if visits is None:
            return values, None
        for_x = 2 * (x * visits.sum(2)[..., None] - visits @ y)
        return values, (for_x, 2 * (y * visits.sum(1)[..., None] - visits.mT @ x))

    def of_given(self, costs: Float[Tensor, "B n m"], *, with_gradients: bool) -> Results:
        """Soft-DTW of given costs, with the gradient for them; on their device."""
        if not costs.is_cuda and usable():
            return self._given_by_kernels(costs, with_gradients)
        values, visits = self._plain(costs.double(), with_gradients)
        return values, None if visits is None else (visits,)

    def _distances_by_kernels(self, x: Tensor, y: Tensor, with_gradients: bool) -> Results:
        from sensorium.dtw.soft_kernels import soft_dtw_pair  # imports numba

        left, right = x.double().cpu().numpy(), y.double().cpu().numpy()

        def one(pair: int, n: int, m: int, cells: Diagonals) -> _Found:
            return soft_dtw_pair(
                left[pair, :n], right[pair, :m], cells, self.gamma, with_gradients=with_gradients
            )

        return self._each(one, (left, right) if with_gradients else (), x.device)

    def _given_by_kernels(self, costs: Tensor, with_gradients: bool) -> Results:
        from sensorium.dtw.soft_kernels import soft_dtw_of_costs  # imports numba

        given = costs.double().cpu().numpy()

        def one(pair: int, n: int, m: int, cells: Diagonals) -> _Found:
            return soft_dtw_of_costs(given[pair, :n, :m], cells, self.gamma, with_gradients=with_gradients)

        return self._each(one, (given,) if with_gradients else (), costs.device)

    def _each(
        self,
        one: Callable[[int, int, int, Diagonals], _Found],
        inputs: tuple[np.ndarray, ...],
        device: torch.device,
    ) -> Results:
        """Call `one` for each pair, in as many threads as PyTorch uses; kernels release the GIL.

        Gradients have the padded shapes of `inputs`; none are returned if there are no inputs.
        """
        from sensorium.dtw.soft_kernels import Diagonals

        sizes = list(zip(*self.lengths, strict=True))
        cells = {size: Diagonals.of_window(self._window(*size)) for size in set(sizes)}
        whole = [np.zeros(one_input.shape) for one_input in inputs]

        def run(pair: int) -> float:
            value, gradients = one(pair, *sizes[pair], cells[sizes[pair]])
            for padded, gradient in zip(whole, gradients, strict=True):
                padded[pair][tuple(map(slice, gradient.shape))] = gradient
            return value

        num_threads = min(len(sizes), torch.get_num_threads())
        if num_threads > 1:
            with ThreadPoolExecutor(num_threads) as pool:
                values = list(pool.map(run, range(len(sizes))))
        else:
            values = [run(pair) for pair in range(len(sizes))]
        self._check_reached(values)
        gradients = tuple(torch.from_numpy(padded).to(device) for padded in whole)
        return torch.tensor(values, dtype=torch.float64).to(device), gradients or None

    def _plain(self, costs: Float64[Tensor, "B n m"], with_posterior: bool) -> tuple[Tensor, Tensor | None]:
        is_allowed = torch.zeros(costs.shape, dtype=torch.bool)
        for pair, (n, m) in enumerate(zip(*self.lengths, strict=True)):
            is_allowed[pair, :n, :m] = torch.from_numpy(self._window(n, m).allowed(m))
        last = torch.tensor(self.lengths, dtype=torch.int64).T - 1
        values, visits = soft_plain.soft_dtw_batch(
            costs,
            is_allowed.to(costs.device),
            last.to(costs.device),
            self.gamma,
            with_posterior=with_posterior,
        )
        self._check_reached(values.tolist())
        return values, visits

    def _window(self, n: int, m: int) -> Ranges:
        found = ranges(self.window, n, m)
        if found.low[0] > 0 or found.high[-1] < m:
            raise impossible(self.window, n, m)
        return found

    def _check_reached(self, values: list[float]) -> None:
        for pair, value in enumerate(values):
            if value >= soft_plain.FAR / 2:
                raise impossible(self.window, self.lengths[0][pair], self.lengths[1][pair])

    @staticmethod
    def _check_finite(name: str, values: Tensor, is_real: Bool[Tensor, "B ..."]) -> None:
        sizes = values.detach().abs().masked_fill(~is_real, 0).flatten(1)
        is_bad = ~(sizes < GREATEST).all(1)
        if is_bad.any():
            pair = int(is_bad.nonzero()[0])
            raise UsageError(
                f"{name}[{pair}] holds NaN, inf or a size beyond {GREATEST:g}; mend or drop it first"
            )


def _lengths(name: str, given: Lengths, batch: int, size: int) -> list[int]:
    if given is None:
        return [size] * batch
    found = [int(length) for length in given]
    if len(found) != batch or not all(1 <= length <= size for length in found):
        raise UsageError(f"lengths of {name} are {found[:9]}; expected {batch} numbers from 1 to {size}")
    return found
