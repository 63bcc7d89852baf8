"""Soft-DTW of a batch in plain PyTorch, for GPU tensors and machines without numba.

Input: costs (B, n, m) in float64, the last cell of each pair, and the allowed cells. Output: values and the
posterior, the probability that a pair's path visits each cell. The numbers equal those of `soft_kernels`. One
PyTorch step processes an anti-diagonal of the whole batch. Memory: three probabilities per cell.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn.functional import pad

FAR = 1e300
"""Accumulated cost of a cell that no path reaches: finite, so that FAR - FAR is 0."""


def soft_dtw_batch(
    costs: Float64[Tensor, "B n m"],
    is_allowed: Bool[Tensor, "B n m"],
    last_cells: Int64[Tensor, "B 2"],
    gamma: float,
    *,
    with_posterior: bool,
) -> tuple[Float64[Tensor, " B"], Float64[Tensor, "B n m"] | None]:
    """Soft-DTW values, and their gradients with respect to the costs if `with_posterior`.

    `is_allowed` is True where the path may visit the cell; costs elsewhere are ignored. `last_cells` are the
    last cells (i, j) of the paths, from 0.
    """
    num_rows = costs.shape[1]
    skewed = _skew(costs.masked_fill(~is_allowed, FAR))
    pairs = torch.arange(len(costs), device=costs.device)
    last_row, last_diagonal = last_cells[:, 0], last_cells.sum(1)
    last = older = costs.new_full((len(costs), num_rows + 1), FAR)  # column i + 1 is row i
    older = older.clone()
    older[:, 0] = 0.0  # before the first row and column, on diagonal -2
    values, kept = costs.new_zeros(len(costs)), []
    for d, cost in enumerate(skewed):
        before = torch.stack([older[:, :-1], last[:, :-1], last[:, 1:]])  # i-1,j-1; i-1,j; i,j-1
        least = before.amin(0)
        weights = ((least - before) / gamma).exp()
        total = weights.sum(0)
        now = pad((cost + (least - gamma * total.log())).clamp_max(FAR), (1, 0), value=FAR)
        older, last = last, now
        values = torch.where(last_diagonal == d, now[pairs, last_row + 1], values)
        if with_posterior:
            kept.append(weights / total)
    if not with_posterior:
        return values, None
    return values, _posterior(kept, last_row, last_diagonal, costs.shape[2])


def _posterior(
    probabilities: list[Tensor], last_row: Tensor, last_diagonal: Tensor, num_columns: int
) -> Float64[Tensor, "B n m"]:
    """Propagate probability mass to predecessors, from the last diagonal to the first."""
    batch, num_rows = probabilities[0].shape[1:]
    rows = torch.arange(num_rows, device=last_row.device)
    visits = []
    handed = probabilities[0].new_zeros(3, batch, num_rows + 1)  # by diagonal d + 1; column i is row i
    handed_before = handed  # by diagonal d + 2
    for d in reversed(range(len(probabilities))):
        is_last = (last_diagonal[:, None] == d) & (rows == last_row[:, None])
        mass = handed_before[0, :, 1:] + handed[1, :, 1:] + handed[2, :, :-1] + is_last
        visits.append(mass)
        handed_before, handed = handed, pad(mass * probabilities[d], (0, 1))
    return _unskew(torch.stack(visits[::-1]), num_columns)


def _skew(costs: Float64[Tensor, "B n m"]) -> Float64[Tensor, "d B n"]:
    """Shift row i by i columns, so that anti-diagonals become columns; `FAR` fills empty cells."""
    batch, num_rows, num_columns = costs.shape
    flat = pad(costs, (0, num_rows), value=FAR).flatten(1)[:, :-num_rows]
    return flat.view(batch, num_rows, num_rows + num_columns - 1).permute(2, 0, 1).contiguous()


def _unskew(skewed: Float64[Tensor, "d B n"], num_columns: int) -> Float64[Tensor, "B n m"]:
    """Inverse of `_skew`."""
    num_rows = skewed.shape[2]
    flat = pad(skewed.permute(1, 2, 0).flatten(1), (0, num_rows))
    return flat.view(len(flat), num_rows, num_rows + num_columns)[:, :, :num_columns]
