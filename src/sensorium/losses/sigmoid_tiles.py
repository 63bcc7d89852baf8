"""The sigmoid loss of SigLIP and its gradient, tile by tile.

In: rows, logit scale, bias, positives, tile size. Out: the loss, differentiable once. No tile depends on
another, so one pass makes each tile, adds its loss and multiplies out its gradient; backward only multiplies
by the incoming gradient. Extra memory is O(B E + tile^2) in place of O(B^2). It does not know what the rows
are.
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
"""softplus(x) = x to within float64 rounding from here on; torch's own default, 20, is off by 2e-9."""


class TiledSigmoid(torch.autograd.Function):
    """The loss that `sensorium.losses.sigmoid` documents.

    With z = +1 for a positive and -1 otherwise, -log sigmoid(z l) = softplus(l) - [positive] l: the first
    term is summed over the tiles, the second over groups.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, positives: Positives, side: int
    ) -> Tensor:
        """Return the loss; keep the gradients if any is wanted."""
        with torch.autocast(a.device.type, enabled=False):
            num_pairs = positives.num_for_a.sum()
            pull_on_a = positives.sum_for_a(b)
            value = -(scale * inner(a, pull_on_a, side) + bias * num_pairs)
            wanted = any(ctx.needs_input_grad)
            grads = (-pull_on_a, -positives.sum_for_b(a)) if wanted else (None, None)
            grad_bias = -num_pairs.to(wide(a))
            for tile in tiles(a, b, scale, side):
                logits = tile.logits.add_(bias)
                value = value + total(softplus(logits, threshold=_LINEAR_ABOVE))
                if grads[0] is None or grads[1] is None:
                    continue
                chance = logits.sigmoid_()
                grad_bias += total(chance)
                grads[0][tile.rows].addmm_(chance, b[tile.columns])
                grads[1][tile.columns].addmm_(chance.T, a[tile.rows])
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
