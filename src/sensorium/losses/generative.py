"""Cross-entropy of the next id, without ever holding the odds of all ids at all places.

    L = sum_i w_i (logsumexp_v(l_iv) - (1 - s) l_iy - (s / V) sum_v l_iv) / sum_i w_i,    l = h W^T

with y the id to be written at place i and s the label smoothing. Places without a target (`IGNORED`) count
for nothing. The (N, V) logits are made a few rows at a time, and so is their gradient, at once: forward keeps
the gradients of h and W, backward scales them. Memory for logits is that of one tile whatever N is; value and
gradients are those of the plain form. Does not know what ids stand for.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from sensorium.core.errors import UsageError

IGNORED = -100
"""The target of a place where nothing is to be learned."""
TILE_BYTES = 32 * 2**20


def next_id_loss(
    hidden: Float[Tensor, "N D"],
    matrix: Float[Tensor, "V D"],
    targets: Int64[Tensor, " N"],
    *,
    smoothing: float = 0.0,
    weights: Float[Tensor, " N"] | None = None,
    tile_rows: int | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the places that have a target; 0 where none has.

    Args:
        hidden: What the decoder gives at each place.
        matrix: The decoder's output matrix W; a frozen one gets no gradient.
        targets: The id to be written next, or `IGNORED`.
        smoothing: s, 0 <= s < 1.
        weights: w_i >= 0; default 1 each.
        tile_rows: Rows of logits held at once; default as many as `TILE_BYTES` hold, in float32.

    Raises:
        UsageError: If a target is no id, or `smoothing` is out of range.

    Example:
        >>> even = next_id_loss(torch.zeros(3, 2), torch.ones(5, 2), torch.tensor([0, 4, IGNORED]))
        >>> round(float(even.exp()), 4)  # nothing known: one of five
        5.0
    """
    kept = (targets != IGNORED).nonzero()[:, 0]
    chosen = targets[kept]
    if not 0 <= smoothing < 1 or (
        len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(matrix)
    ):
        raise UsageError(
            f"smoothing={smoothing}, targets up to {int(chosen.max()) if len(chosen) else 'none'}; expected "
            f"0 <= smoothing < 1 and ids below {len(matrix)}, or {IGNORED} for none"
        )
    weighted = torch.ones_like(chosen, dtype=_exact(hidden)) if weights is None else weights[kept]
    tile = max(1, TILE_BYTES // (4 * len(matrix))) if tile_rows is None else tile_rows
    loss: Tensor = _NextIdLoss.apply(hidden[kept], matrix, chosen, weighted, smoothing, tile)
    return loss


class _NextIdLoss(torch.autograd.Function):
    """The loss, tile by tile."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        matrix: Tensor,
        targets: Tensor,
        weights: Tensor,
        smoothing: float,
        tile: int,
    ) -> Tensor:
        needs_hidden, needs_matrix = ctx.needs_input_grad[:2]
        precision = _exact(hidden)
        total = torch.zeros((), dtype=precision, device=hidden.device)
        share = weights.to(precision) / weights.sum().clamp(min=torch.finfo(precision).tiny)
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_matrix = torch.zeros_like(matrix, dtype=precision) if needs_matrix else None
        for start in range(0, len(hidden), tile):
            rows = slice(start, start + tile)
            near = hidden[rows].to(matrix.dtype)
            loss, gradient = _tile((near @ matrix.T).to(precision), targets[rows], share[rows], smoothing)
            total += loss
            if to_hidden is not None:
                to_hidden[rows] = gradient.to(matrix.dtype) @ matrix
            if to_matrix is not None:
                to_matrix += gradient.T @ near.to(precision)
        ctx.save_for_backward(to_hidden, to_matrix if to_matrix is None else to_matrix.to(matrix.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_matrix = ctx.saved_tensors
        scaled = (None if one is None else one * above.to(one.dtype) for one in (to_hidden, to_matrix))
        return (*scaled, None, None, None, None)


def _tile(logits: Tensor, targets: Tensor, share: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Loss of some rows, and its gradient by their logits."""
    logs = logits.log_softmax(dim=1)
    of_target = logs.gather(1, targets[:, None])[:, 0]
    loss = -(share * ((1 - smoothing) * of_target + smoothing * logs.mean(dim=1))).sum()
    gradient = logs.exp_().sub_(smoothing / logits.shape[1])
    gradient[torch.arange(len(targets), device=targets.device), targets] -= 1 - smoothing
    return loss, gradient.mul_(share[:, None])


def _exact(hidden: Tensor) -> torch.dtype:
    """Type in which logits are summed: float64 stays, all others become float32."""
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32
