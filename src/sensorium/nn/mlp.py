"""Feed-forward layers of a Transformer block, and dropout with stochastic depth.

Input and output: tokens (B, N, D), each processed independently. `MLP` is down(gelu(up(x))). `GatedMLP` is
down(silu(gate(x)) * up(x)) (SwiGLU, arXiv:2002.05202), the MLP of Llama.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class MLP(nn.Module):
    """Two linear layers with a GELU between them.

    Args:
        dim: Width D.
        inner_dim: Width between the layers.
        has_bias: Whether the layers have biases.
    """

    def __init__(self, dim: int, inner_dim: int, *, has_bias: bool = True) -> None:
        super().__init__()
        self.up = nn.Linear(dim, inner_dim, bias=has_bias)
        self.down = nn.Linear(inner_dim, dim, bias=has_bias)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Compute down(gelu(up(x)))."""
        out: Tensor = self.down(functional.gelu(self.up(x)))
        return out


class GatedMLP(nn.Module):
    """SwiGLU: three linear layers, one of them a gate.

    Args:
        dim: Width D.
        inner_dim: Width of the gate; 8/3 D has the parameters of an `MLP` with 4 D.
        has_bias: Whether the layers have biases.
    """

    def __init__(self, dim: int, inner_dim: int, *, has_bias: bool = False) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, inner_dim, bias=has_bias)
        self.up = nn.Linear(dim, inner_dim, bias=has_bias)
        self.down = nn.Linear(inner_dim, dim, bias=has_bias)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Compute down(silu(gate(x)) * up(x))."""
        out: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


class Drop(nn.Module):
    """Dropout of values and of whole samples (stochastic depth) in training; the mean is preserved.

    Args:
        values: Dropout rate of single values.
        samples: Probability that a sample's whole branch is dropped (arXiv:1603.09382).
    """

    def __init__(self, values: float = 0.0, samples: float = 0.0) -> None:
        super().__init__()
        self.values, self.samples = values, samples

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """Drop, in training; return `x` itself in evaluation."""
        if not self.training:
            return x
        if self.values:
            x = functional.dropout(x, self.values)
        if self.samples:
            shape = (len(x),) + (1,) * (x.ndim - 1)
            x = x * torch.empty(shape, device=x.device, dtype=x.dtype).bernoulli_(1 - self.samples)
            x = x / (1 - self.samples)
        return x
