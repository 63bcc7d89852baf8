"""InfoNCE and its gradient, tile by tile.

In: rows, logit scale, positives, tile size. Out: the loss, differentiable once. Pass one (forward) keeps only
the log-sum-exp of each row and column of the logits; pass two (backward) makes each tile again, turns it into
both softmaxes and multiplies it out. Extra memory is O(B E + tile^2) in place of O(B^2). A batch that fits in
one tile keeps that tile. The tiling is that of Inf-CL (arXiv 2410.17243), without its kernels. It does not
know what the rows are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sensorium.losses.positives import Positives
from sensorium.losses.tiles import Tile, inner, tiles, wide


class TiledInfoNCE(torch.autograd.Function):
    """The loss that `sensorium.losses.info_nce` documents."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, positives: Positives, side: int) -> Tensor:
        """Return the loss; keep the log-sum-exps."""
        with torch.autocast(a.device.type, enabled=False):
            lse_a, lse_b, kept = _log_sums(a, b, scale, side)
            value = (_anchor_weight(positives.num_for_a) * lse_a).sum()
            value = value + (_anchor_weight(positives.num_for_b) * lse_b).sum()
            value = value - scale * inner(a, _pull_on_a(b, positives), side)
        ctx.save_for_backward(a, b, scale, lse_a, lse_b, kept)
        ctx.positives, ctx.side = positives, side
        return value.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of a, b and the scale."""
        a, b, scale, lse_a, lse_b, kept = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            grad_a = -_pull_on_a(b, ctx.positives)
            grad_b = -_pull_on_b(a, ctx.positives) if ctx.needs_input_grad[1] else None
            # exp(logit - shift) is the softmax times the anchor's weight; shift is +inf without positives.
            shift_a = (lse_a - _anchor_weight(ctx.positives.num_for_a).log()).to(a.dtype)[:, None]
            shift_b = (lse_b - _anchor_weight(ctx.positives.num_for_b).log()).to(a.dtype)
            for tile in tiles(a, b, scale, ctx.side) if kept is None else [_whole(kept)]:
                torch.sub(tile.logits, shift_a[tile.rows], out=tile.spare).exp_()
                both = tile.logits.sub_(shift_b[tile.columns]).exp_().add_(tile.spare)
                grad_a[tile.rows].addmm_(both, b[tile.columns])
                if grad_b is not None:
                    grad_b[tile.columns].addmm_(both.T, a[tile.rows])
            # The loss sees a only as scale * a, so its derivative by scale is <a, dL/da> / scale.
            grad_scale = (grad * inner(a, grad_a, ctx.side)).to(scale.dtype)
            factor = grad * scale
        return grad_a.mul_(factor), None if grad_b is None else grad_b.mul_(factor), grad_scale, None, None


def _log_sums(a: Tensor, b: Tensor, scale: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-sum-exp of each row and column, and the logits if they are a single tile."""
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
    """The only tile of a small batch; a copy, because tiles are overwritten and backward may run again."""
    everything = slice(0, len(logits))
    return Tile(everything, everything, logits.clone(), torch.empty_like(logits))


def _anchor_weight(num_positives: Tensor) -> Tensor:
    """1 / (number of anchors that have a positive) for those, 0 for the others."""
    has_any = (num_positives > 0).to(wide(num_positives))
    return has_any / has_any.sum().clamp(min=1)


def _pair_weight(num_positives: Tensor, num_peers: Tensor, num_reverse_anchors: Tensor) -> Tensor:
    """Weight of the logit of one positive pair: as positive of its row plus as positive of its column."""
    as_row = _anchor_weight(num_positives) / num_positives.clamp(min=1)
    return as_row + 1 / (num_peers.to(as_row.dtype) * num_reverse_anchors.clamp(min=1))


def _pull_on_a(b: Tensor, positives: Positives) -> Tensor:
    """What draws each row of a: the weighted sum of its positives."""
    num_anchors = (positives.num_for_b > 0).sum()
    weight = _pair_weight(positives.num_for_a, positives.peers_of_a, num_anchors)
    return positives.sum_for_a(b) * weight.to(b.dtype)[:, None]


def _pull_on_b(a: Tensor, positives: Positives) -> Tensor:
    """What draws each row of b: the weighted sum of its positives."""
    num_anchors = (positives.num_for_a > 0).sum()
    weight = _pair_weight(positives.num_for_b, positives.peers_of_b, num_anchors)
    return positives.sum_for_b(a) * weight.to(a.dtype)[:, None]
