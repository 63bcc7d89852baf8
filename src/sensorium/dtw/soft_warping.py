"""Soft-DTW and its divergence, differentiable with respect to both series.

Input: padded batches of series and their lengths. Output: one value per pair. Computation is float64 for any
input type, because sums over thousands of cells lose too many digits in float32. Value and gradient are
computed together, pair by pair. Only the gradient is kept for the backward pass: O(B (n + m) D) memory
instead of several (B, n, m) matrices. Second derivatives are not available.

Reference: Cuturi and Blondel 2017 (arXiv 1703.01541); divergence: Blondel, Mensch and Vert 2021 (arXiv
2010.08354).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import once_differentiable

from sensorium.core.errors import UsageError
from sensorium.dtw.soft_pairs import Gradients, Lengths, Pairs
from sensorium.dtw.windows import Window


def soft_dtw(
    x: Float[Tensor, "B n D"],
    y: Float[Tensor, "B m D"],
    *,
    gamma: float = 1.0,
    lengths: tuple[Lengths, Lengths] | None = None,
    window: Window = None,
) -> Float[Tensor, " B"]:
    """Soft-DTW of each pair: the soft minimum over all warping paths of their summed squared distances.

        soft_dtw(x, y) = -gamma log sum_paths exp(-sum_{(i, j) in path} |x_i - y_j|^2 / gamma)

    It converges to exact DTW as gamma -> 0. It is negative if many paths are cheap, and its minimum is not at
    x = y; see `soft_dtw_divergence`. The gradient is exact for x and y and cannot be differentiated again.
    Padding is ignored and has gradient 0.

    Args:
        x: Series, padded at the end to a common length. float64 gives float64, other types give float32.
        y: As many series; their padded length may differ.
        gamma: Smoothing, > 0, in the units of the costs.
        lengths: Valid frames of each series of x (1 to n) and of y (1 to m); None: all.
        window: Cells that paths may visit, as for `dtw`, applied to the valid lengths of each pair.

    Raises:
        UsageError: If shapes or types disagree, a value is not finite, gamma or a length is out of range, or
            no path leads through the window.

    Example:
        >>> x = torch.tensor([[[0.0], [1.0], [2.0]]])
        >>> y = torch.tensor([[[0.0], [0.0], [1.0], [3.0]]])
        >>> [round(soft_dtw(x, y, gamma=gamma).item(), 3) for gamma in (1e-3, 1.0)]  # DTW's is 1
        [1.0, -0.235]
    """
    pairs = Pairs.of_series(x, y, gamma, lengths, window)

    def compute(wanted: bool) -> tuple[Tensor, Gradients]:
        return pairs.of_distances(x.detach(), y.detach(), with_gradients=wanted)

    return _apply(compute, x, y)


def soft_dtw_divergence(
    x: Float[Tensor, "B n D"],
    y: Float[Tensor, "B m D"],
    *,
    gamma: float = 1.0,
    lengths: tuple[Lengths, Lengths] | None = None,
    window: Window = None,
) -> Float[Tensor, " B"]:
    """Debiased soft-DTW: soft_dtw(x, y) - soft_dtw(x, x) / 2 - soft_dtw(y, y) / 2.

    It is symmetric, non-negative, and 0 with zero gradient at x = y. Blondel et al. prove non-negativity for
    a slightly larger cost, |d|^2 + log(2 - exp(-|d|^2)), and conjecture it for the squared distance used
    here. Arguments are those of `soft_dtw`; the window applies to all three terms.

    Raises:
        UsageError: As for `soft_dtw`, and if the window is a bool matrix, because it fits only one term.

    Example:
        >>> x = torch.tensor([[[0.0], [1.0], [2.0]]])
        >>> soft_dtw_divergence(x, x).item(), round(soft_dtw_divergence(x, x + 1).item(), 3)
        (0.0, 2.137)
    """
    if isinstance(window, np.ndarray):
        raise UsageError(
            "the divergence compares x with y, x and itself: one matrix as a window cannot fit all"
        )
    crossed = Pairs.of_series(x, y, gamma, lengths, window)
    series = x.detach(), y.detach()

    def compute(wanted: bool) -> tuple[Tensor, Gradients]:
        values, gradients = crossed.of_distances(*series, with_gradients=wanted)
        found = list(gradients or ())
        for side, one in enumerate(series):
            own, twice = crossed.of_one(side).of_distances(one, one, with_gradients=wanted)
            values = values - own / 2
            if twice is not None:
                found[side] = found[side] - (twice[0] + twice[1]) / 2
        return values, tuple(found) or None

    return _apply(compute, x, y)


def soft_dtw_from_costs(
    costs: Float[Tensor, "B n m"],
    *,
    gamma: float = 1.0,
    lengths: tuple[Lengths, Lengths] | None = None,
    window: Window = None,
) -> Float[Tensor, " B"]:
    """Soft-DTW of precomputed costs with any metric, differentiable with respect to the costs.

    `costs` pair frame i of one series with frame j of the other; they may be negative. Other arguments and
    errors are those of `soft_dtw`. The gradient is the probability that a pair's path visits each cell: a
    soft alignment, (B, n, m).

    Example:
        >>> costs = torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True)
        >>> soft_dtw_from_costs(costs).backward()  # three paths, one of them past each corner
        >>> costs.grad.round(decimals=2).tolist()
        [[[1.0, 0.33], [0.33, 1.0]]]
    """
    pairs = Pairs.of_costs(costs, gamma, lengths, window)
    return _apply(lambda wanted: pairs.of_given(costs.detach(), with_gradients=wanted), costs)


class _WithGradients(torch.autograd.Function):
    """Autograd function with gradients computed in the forward pass; backward only multiplies."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[[bool], tuple[Tensor, Gradients]], *inputs: Tensor) -> Tensor:
        values, gradients = compute(any(ctx.needs_input_grad))
        dtype = torch.promote_types(inputs[0].dtype, torch.float32)
        ctx.dtype = inputs[0].dtype
        ctx.save_for_backward(*(_narrowed("the gradient", one, dtype) for one in gradients or ()))
        return _narrowed("the value", values, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        scale = upstream[:, None, None]
        return None, *((scale * kept).to(ctx.dtype) for kept in ctx.saved_tensors)


def _narrowed(name: str, values: Float64[Tensor, "B ..."], dtype: torch.dtype) -> Tensor:
    """Cast to the output type; UsageError if a finite number exceeds its range."""
    found: Tensor = values.to(dtype)
    if found.numel() and not found.isfinite().all():
        largest = float(values.abs().max())
        raise UsageError(
            f"{name} has a size of {largest:.1e}, too large for {str(dtype)[6:]}; give float64, or scale the "
            "series (and gamma) down"
        )
    return found


def _apply(compute: Callable[[bool], tuple[Tensor, Gradients]], *inputs: Tensor) -> Float[Tensor, " B"]:
    if not torch.is_grad_enabled():
        inputs = tuple(one.detach() for one in inputs)
    values: Tensor = _WithGradients.apply(compute, *inputs)
    return values
