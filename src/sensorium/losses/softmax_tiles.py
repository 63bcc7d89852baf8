"""InfoNCE and its gradient, tile by tile.

Input: rows, logit scale, positives, tile size. Output: the loss, differentiable once. Forward keeps only the
log-sum-exp of each row and column of the logits. Backward recomputes each tile, applies the row softmax and
the column softmax, and accumulates the gradients. A batch that fits in one tile keeps that tile. Extra memory
is O(B E + tile^2) instead of O(B^2).

If the norms of the rows and the scale exclude overflow and underflow ("bounded"), exp(logit) is computed once
for row and column. Otherwise each row and column is shifted by its maximum. Tiling as in Inf-CL (arXiv
2410.17243), without its kernels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sensorium.losses.positives import Positives
from sensorium.losses.tiles import Tile, inner, tiles, wide


class TiledInfoNCE(torch.autograd.Function):
    """See `sensorium.losses.info_nce`."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, positives: Positives, side: int) -> Tensor:
        """Return the loss; save the log-sum-exps."""
        with torch.autocast(a.device.type, enabled=False):
            is_bounded = _is_bounded(a, b, scale)
            lse_a, lse_b, kept = (_bounded_log_sums if is_bounded else _log_sums)(a, b, scale, side)
            if positives.is_one_to_one:
                value = (lse_a.sum() + lse_b.sum() - 2 * scale * inner(a, b, side)) / len(a)
            else:
                value = (_anchor_weight(positives.num_for_a) * lse_a).sum()
                value = value + (_anchor_weight(positives.num_for_b) * lse_b).sum()
                value = value - scale * inner(a, _positive_sum_a(b, positives), side)
        ctx.save_for_backward(a, b, scale, lse_a, lse_b, kept)
        ctx.positives, ctx.side, ctx.is_bounded = positives, side, is_bounded
        return value.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of a, b and the scale."""
        a, b, scale, lse_a, lse_b, kept = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            grad_a, grad_b = _positive_gradients(a, b, ctx.positives, ctx.needs_input_grad[1])
            by_row, by_column = _shifts(lse_a, lse_b, ctx.positives, a.dtype, ctx.is_bounded)
            softmaxes = _bounded_softmaxes if ctx.is_bounded else _softmaxes
            for tile in tiles(a, b, scale, ctx.side) if kept is None else [_whole(kept)]:
                both = softmaxes(tile, by_row[tile.rows], by_column[tile.columns], kept is not None)
                if ctx.positives.is_one_to_one and tile.rows == tile.columns:
                    both.diagonal().sub_(2 / len(a))
                grad_a[tile.rows].addmm_(both, b[tile.columns])
                if grad_b is not None:
                    grad_b[tile.columns].addmm_(both.T, a[tile.rows])
            # The loss depends on scale * a, so its derivative by scale is <a, dL/da> / scale.
            grad_scale = (grad * inner(a, grad_a, ctx.side)).to(scale.dtype)
            factor = grad * scale
        return grad_a.mul_(factor), None if grad_b is None else grad_b.mul_(factor), grad_scale, None, None


def _is_bounded(a: Tensor, b: Tensor, scale: Tensor) -> bool:
    """Whether exp(logit), sums of it and their reciprocals stay within the range of the number format."""
    limit = 80.0 if a.dtype == torch.float32 else 600.0
    greatest = scale.abs() * a.norm(dim=1).amax() * b.norm(dim=1).amax()
    return float(greatest) + 2 * math.log(len(a)) <= limit


def _bounded_log_sums(a: Tensor, b: Tensor, scale: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-sum-exp of each row and column, and the exponentials if there is a single tile."""
    sums_a = a.new_zeros((len(a),), dtype=wide(a))
    sums_b = torch.zeros_like(sums_a)
    kept = None
    for tile in tiles(a, b, scale, side):
        exps = tile.logits.exp_()
        kept = exps if len(a) <= side else None
        sums_a[tile.rows] += exps.sum(1)
        sums_b[tile.columns] += exps.sum(0)
    return sums_a.log_(), sums_b.log_(), kept


def _bounded_softmaxes(tile: Tile, by_row: Tensor, by_column: Tensor, is_kept: bool) -> Tensor:
    """exp(logit) times the sum of both factors. A kept tile holds exponentials and is not overwritten."""
    torch.add(by_row, by_column, out=tile.spare)
    return tile.spare.mul_(tile.logits if is_kept else tile.logits.exp_())


def _softmaxes(tile: Tile, by_row: Tensor, by_column: Tensor, is_kept: bool) -> Tensor:
    """Sum of the exponentials with either shift. A kept tile holds logits and is not overwritten."""
    torch.sub(tile.logits, by_row, out=tile.spare).exp_()
    other = torch.sub(tile.logits, by_column) if is_kept else tile.logits.sub_(by_column)
    return tile.spare.add_(other.exp_())


def _log_sums(a: Tensor, b: Tensor, scale: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-sum-exp of each row and column, and the logits if there is a single tile."""
    lse_a = a.new_full((len(a),), -torch.inf, dtype=wide(a))
    lse_b = torch.full_like(lse_a, -torch.inf)
    kept = None
    for tile in tiles(a, b, scale, side):
        kept = tile.logits if len(a) <= side else None
        for dim, total in ((1, lse_a[tile.rows]), (0, lse_b[tile.columns])):
            peak = tile.logits.amax(dim, keepdim=True)
            sums = torch.sub(tile.logits, peak, out=tile.spare).exp_().sum(dim)
            torch.logaddexp(total, sums.to(total.dtype).log_().add_(peak.squeeze(dim)), out=total)
    return lse_a, lse_b, kept


def _whole(logits: Tensor) -> Tile:
    """The single tile of a small batch."""
    everything = slice(0, len(logits))
    return Tile(everything, everything, logits, torch.empty_like(logits))


def _anchor_weight(num_positives: Tensor) -> Tensor:
    """1 / (number of anchors with a positive) for anchors with a positive, else 0."""
    has_any = (num_positives > 0).to(wide(num_positives))
    return has_any / has_any.sum().clamp(min=1)


def _pair_weight(num_positives: Tensor, num_peers: Tensor, num_reverse_anchors: Tensor) -> Tensor:
    """Weight of the logit of a positive pair: that in the row term plus that in the column term."""
    as_row = _anchor_weight(num_positives) / num_positives.clamp(min=1)
    return as_row + 1 / (num_peers.to(as_row.dtype) * num_reverse_anchors.clamp(min=1))


def _shifts(
    lse_a: Tensor, lse_b: Tensor, positives: Positives, dtype: torch.dtype, is_bounded: bool
) -> tuple[Tensor, Tensor]:
    """Shifts for weighted softmaxes exp(logit - shift); if bounded, the factors exp(-shift).

    The shift of an anchor without positives is +inf.
    """
    if positives.is_one_to_one:
        shifts = [lse + math.log(len(lse_a)) for lse in (lse_a, lse_b)]
    else:
        shifts = [
            lse - _anchor_weight(num).log()
            for lse, num in ((lse_a, positives.num_for_a), (lse_b, positives.num_for_b))
        ]
    by_row, by_column = ((shift.neg_().exp_() if is_bounded else shift).to(dtype) for shift in shifts)
    return by_row[:, None], by_column


def _positive_gradients(
    a: Tensor, b: Tensor, positives: Positives, with_b: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the positive logits; 0 if one-to-one, where each tile subtracts them instead."""
    if positives.is_one_to_one:
        return torch.zeros_like(a), torch.zeros_like(b) if with_b else None
    return -_positive_sum_a(b, positives), -_positive_sum_b(a, positives) if with_b else None


def _positive_sum_a(b: Tensor, positives: Positives) -> Tensor:
    """Weighted sum of the positives of each row of a."""
    num_anchors = (positives.num_for_b > 0).sum()
    weight = _pair_weight(positives.num_for_a, positives.peers_of_a, num_anchors)
    return positives.sum_for_a(b) * weight.to(b.dtype)[:, None]


def _positive_sum_b(a: Tensor, positives: Positives) -> Tensor:
    """Weighted sum of the positives of each row of b."""
    num_anchors = (positives.num_for_a > 0).sum()
    weight = _pair_weight(positives.num_for_b, positives.peers_of_b, num_anchors)
    return positives.sum_for_b(a) * weight.to(a.dtype)[:, None]
