"""The learned factor of the logits, and the offset of the sigmoid loss."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

MAX_LOGIT_SCALE = 100.0


class LogitScale(nn.Module):
    """s = exp(min(log_scale, ln 100)): cosines times s are logits.

    The bound acts in the forward pass; backward, a step that would only go further above it gets no gradient,
    while one that comes back gets all of it, so that the parameter is never stuck and never edited in place.

    Args:
        init: Value at the start, in (0, 100]; CLIP uses 1 / 0.07.

    Reference:
        Radford et al., arXiv 2103.00020, §2.5.
    """

    def __init__(self, init: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(init)))

    def forward(self) -> Float[Tensor, ""]:
        """Return the factor, at most 100."""
        bounded: Tensor = _BoundedAbove.apply(self.log_scale, math.log(MAX_LOGIT_SCALE))
        return bounded.exp()


class _BoundedAbove(torch.autograd.Function):
    """min(x, bound) with the gradient kept where descent would lower x."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, value: Tensor, bound: float) -> Tensor:
        context.save_for_backward(value > bound)
        return value.clamp(max=bound)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (is_above,) = context.saved_tensors  # type: ignore[attr-defined]
        return torch.where(is_above & (gradient < 0), torch.zeros_like(gradient), gradient), None
