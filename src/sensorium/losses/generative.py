"""Next-token cross-entropy, computed from hidden states in tiles so that the (N, V) logits never exist.

    L = sum_i w_i (logsumexp_v(l_iv) - (1 - s) l_iy - (s / V) sum_v l_iv) / sum_i w_i,    l = h W^T

where y is the target id at position i and s the label smoothing. Positions with target `IGNORED` are skipped.
Logits and their gradient are computed a few rows at a time (fused linear cross-entropy): forward stores the
gradients of h and W, backward scales them. Memory for logits is one tile for any N. Value and gradients equal
those of the untiled form.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from sensorium.core.errors import UsageError

IGNORED = -100
"""Target of positions without a loss, as PyTorch's `ignore_index`."""
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
    """Mean cross-entropy over the positions with a target; 0 if there is none.

    Args:
        hidden: Decoder output at each position.
        matrix: Output matrix W of the decoder; no gradient if frozen.
        targets: Next id, or `IGNORED`.
        smoothing: s, 0 <= s < 1.
        weights: w_i >= 0; 1 each by default.
        tile_rows: Rows of logits in memory at one time; by default as many as fit in `TILE_BYTES` in float32.

    Raises:
        UsageError: If a target is not an id, or `smoothing` is out of range.

    Example:
        >>> uniform = next_id_loss(torch.zeros(3, 2), torch.ones(5, 2), torch.tensor([0, 4, IGNORED]))
        >>> round(float(uniform.exp()), 4)  # perplexity of five equal logits
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
    weighted = torch.ones_like(chosen, dtype=_sum_dtype(hidden)) if weights is None else weights[kept]
    tile = max(1, TILE_BYTES // (4 * len(matrix))) if tile_rows is None else tile_rows
    loss: Tensor = _NextIdLoss.apply(hidden[kept], matrix, chosen, weighted, smoothing, tile)
    return loss


class _NextIdLoss(torch.autograd.Function):
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
        precision = _sum_dtype(hidden)
        total = torch.zeros((), dtype=precision, device=hidden.device)
        share = weights.to(precision) / weights.sum().clamp(min=torch.finfo(precision).tiny)
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_matrix = torch.zeros_like(matrix, dtype=precision) if needs_matrix else None
        for start in range(0, len(hidden), tile):
            rows = slice(start, start + tile)
            part = hidden[rows].to(matrix.dtype)
            loss, gradient = _tile((part @ matrix.T).to(precision), targets[rows], share[rows], smoothing)
            total += loss
            if to_hidden is not None:
                to_hidden[rows] = gradient.to(matrix.dtype) @ matrix
            if to_matrix is not None:
                to_matrix += gradient.T @ part.to(precision)
        ctx.save_for_backward(to_hidden, to_matrix if to_matrix is None else to_matrix.to(matrix.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_matrix = ctx.saved_tensors
        scaled = (None if one is None else one * above.to(one.dtype) for one in (to_hidden, to_matrix))
        return (*scaled, None, None, None, None)


def _tile(logits: Tensor, targets: Tensor, share: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Loss of some rows, and its gradient with respect to their logits."""
    log_probs = logits.log_softmax(dim=1)
    of_target = log_probs.gather(1, targets[:, None])[:, 0]
    loss = -(share * ((1 - smoothing) * of_target + smoothing * log_probs.mean(dim=1))).sum()
    gradient = log_probs.exp_().sub_(smoothing / logits.shape[1])
    gradient[torch.arange(len(targets), device=targets.device), targets] -= 1 - smoothing
    return loss, gradient.mul_(share[:, None])


def _sum_dtype(hidden: Tensor) -> torch.dtype:
    """Number format of the sums: float64 for float64, else float32."""
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32
