"""Sigmoid loss of SigLIP and its gradient, tile by tile.

Input: rows, logit scale, bias, positives, tile size. Output: the loss, differentiable once. Tiles are
independent, so forward computes loss and gradient of each tile in one pass; backward multiplies by the
incoming gradient. Extra memory is O(B E + tile^2) instead of O(B^2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from sensorium.losses.positives import Positives
from sensorium.losses.tiles import inner, tiles, total, wide

_LINEAR_ABOVE = 40.0
"""Above this, softplus(x) = x to float64 rounding; at torch's default of 20 the error is 2e-9."""


class TiledSigmoid(torch.autograd.Function):
    """See `sensorium.losses.sigmoid`.

    With z = +1 for a positive and -1 otherwise, -log sigmoid(z l) = softplus(l) - [positive] l: the first
    term is summed over the tiles, the second over groups.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, positives: Positives, side: int
    ) -> Tensor:
        """Return the loss; save the gradients if any is needed."""
        with torch.autocast(a.device.type, enabled=False):
            num_pairs = positives.num_for_a.sum()
            positive_sum = positives.sum_for_a(b)
            value = -(scale * inner(a, positive_sum, side) + bias * num_pairs)
            is_needed = any(ctx.needs_input_grad)
            grads = (-positive_sum, -positives.sum_for_b(a)) if is_needed else (None, None)
            grad_bias = -num_pairs.to(wide(a))
            for tile in tiles(a, b, scale, side):
                logits = tile.logits.add_(bias)
                value = value + total(softplus(logits, threshold=_LINEAR_ABOVE))
                if grads[0] is None or grads[1] is None:
                    continue
                probability = logits.sigmoid_()
                grad_bias += total(probability)
                grads[0][tile.rows].addmm_(probability, b[tile.columns])
                grads[1][tile.columns].addmm_(probability.T, a[tile.rows])
            if grads[0] is not None:
                ctx.save_for_backward(*grads, inner(a, grads[0], side), grad_bias, scale, bias)
        return (value / len(a)).to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of a, b, the scale and the bias."""
        grad_a, grad_b, grad_scale, grad_bias, scale, bias = ctx.saved_tensors
        grad = grad / len(grad_a)
        factor = grad * scale
        by_scale, by_bias = (grad * grad_scale).to(scale.dtype), (grad * grad_bias).to(bias.dtype)
        return grad_a * factor, grad_b * factor, by_scale, by_bias, None, None
