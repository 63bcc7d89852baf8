"""Projection heads, from pooled encoder vectors (B, D) to the joint space (B, E), and the logit scale.

Head outputs are not normalised. A head is the only trained part above a frozen encoder, so it normalises its
input: encoders differ by orders of magnitude in scale. Heads do not know modalities or losses.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.errors import ConfigError
from sensorium.core.registry import Registry

MAX_LOGIT_SCALE = 100.0

HEADS: Registry[nn.Module] = Registry("head")
"""Builders `(in_dim, out_dim, **options) -> nn.Module` with `forward((B, in_dim)) -> (B, out_dim)`."""


@HEADS.register("identity")
class IdentityHead(nn.Module):
    """y = x: the encoder's own space is the joint space, and the other towers learn to map into it.

    With little data this is the best head over a frozen sentence encoder.

    Args:
        in_dim: Width D of the encoder.
        out_dim: Width E of the joint space; must equal `in_dim`.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        if in_dim != out_dim:
            raise ConfigError(
                f"head 'identity' keeps the encoder's width {in_dim}, got dim={out_dim}; "
                f"set model.dim = {in_dim}, or take another head"
            )

    def forward(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Return the input."""
        return pooled


@HEADS.register("linear")
class LinearHead(nn.Module):
    """y = W LayerNorm(x): CLIP's projection.

    Args:
        in_dim: Width D of the encoder.
        out_dim: Width E of the joint space.
        dropout: Dropout rate of the input, in [0, 1).
        standardise: Whether a batch norm without affine parameters follows. Without it, outputs of random
            weights have similar directions, and contrastive training separates them slowly.

    Reference:
        Radford et al., arXiv 2103.00020, §2.3: a linear map alone. The layer norm is ours, for frozen
        encoders. Batch norm as the last layer: Chen and He (SimSiam), arXiv 2011.10566, §4.4.
    """

    def __init__(self, in_dim: int, out_dim: int, *, dropout: float = 0.0, standardise: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_dim)
        self.dropout = nn.Dropout(_check_rate(dropout))
        self.project = nn.Linear(in_dim, out_dim, bias=False)
        self.last = nn.BatchNorm1d(out_dim, affine=False) if standardise else None

    def forward(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Project pooled vectors."""
        projected: Tensor = self.project(self.dropout(self.norm(pooled)))
        if self.last is None:
            return projected
        alone = self.training and len(projected) < 2  # a single row has no variance
        standard: Tensor = self.last.eval()(projected) if alone else self.last.train(self.training)(projected)
        return standard


@HEADS.register("residual-mlp")
class ResidualMlpHead(nn.Module):
    """Residual blocks between two linear maps.

    h = W_in LayerNorm(x); h += MLP_i(LayerNorm(h)) for each block; y = W_out LayerNorm(h).

    Args:
        in_dim: Width D of the encoder.
        out_dim: Width E of the joint space.
        width: Width of the residual stream; default `out_dim`.
        num_blocks: Number of residual blocks.
        expansion: Hidden width of a block as a multiple of `width`.
        dropout: Dropout rate after each hidden layer, in [0, 1).
        input_dropout: Dropout rate of the input, in [0, 1).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        width: int | None = None,
        num_blocks: int = 1,
        expansion: float = 2.0,
        dropout: float = 0.1,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = out_dim if width is None else width
        if width < 1 or num_blocks < 0 or expansion <= 0:
            raise ConfigError(
                f"head 'residual-mlp': width={width}, num_blocks={num_blocks}, expansion={expansion}; "
                "expected width >= 1, num_blocks >= 0, expansion > 0"
            )
        hidden = max(1, round(width * expansion))
        self.enter = nn.Sequential(
            nn.LayerNorm(in_dim), nn.Dropout(_check_rate(input_dropout)), nn.Linear(in_dim, width)
        )
        self.blocks = nn.ModuleList(_block(width, hidden, _check_rate(dropout)) for _ in range(num_blocks))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out_dim, bias=False))

    def forward(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Project pooled vectors."""
        hidden: Tensor = self.enter(pooled)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        projected: Tensor = self.leave(hidden)
        return projected


def _block(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, width),
        nn.Dropout(dropout),
    )


def _check_rate(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ConfigError(f"dropout={rate} is not a rate; expected 0 <= dropout < 1")
    return rate


class LogitScale(nn.Module):
    """Learned factor of the logits: s = exp(min(log_scale, ln 100)); logits are s times the cosines.

    The bound acts in the forward pass. Above it, the backward pass keeps only the gradient that lowers
    `log_scale`, so that the parameter never gets stuck.

    Args:
        init: Initial value, in (0, 100]; CLIP uses 1 / 0.07.

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
