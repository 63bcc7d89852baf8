"""Low-rank adapters: a frozen matrix learns by a small one beside it.

    y = W x + (alpha / r) B A x        W stays as it is; A (r x in) and B (out x r) train, B from 0

so that an adapted layer starts as the layer itself, bit for bit (arXiv:2106.09685, section 4.1). `adapt` puts
them on chosen layers of any module, `merge` adds them into W for good, as decoding wants it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.errors import ConfigError


class LoRALinear(nn.Module):
    """A linear layer and its adapter.

    Args:
        base: The layer; its parameters stop training.
        rank: Width r of the adapter.
        alpha: Its strength; the sum is scaled by alpha / r.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """Compute y."""
        own: Tensor = self.base(x)
        return own + self.scale * functional.linear(functional.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The layer with its adapter added into W."""
        self.base.weight += (self.scale * self.up @ self.down).to(self.base.weight.dtype)
        return self.base


def adapt(module: nn.Module, layers: Sequence[str], rank: int, alpha: float | None = None) -> int:
    """Put an adapter on every linear layer of these names, wherever in `module` it stands.

    Args:
        module: Changed in place.
        layers: Last parts of the layers' names, such as `query` and `value`.
        rank: Width of the adapters.
        alpha: Their strength; default twice the rank.

    Returns:
        How many were put.

    Raises:
        ConfigError: If there is no such layer.
    """
    found = [
        (parent, name)
        for parent in list(module.modules())
        for name, child in parent.named_children()
        if name in layers and isinstance(child, nn.Linear)
    ]
    if not found:
        raise ConfigError(
            f"no linear layer is called {', '.join(layers)}; name some, as in ['query', 'value']"
        )
    for parent, name in found:
        setattr(parent, name, LoRALinear(getattr(parent, name), rank, 2.0 * rank if alpha is None else alpha))
    return len(found)


def merge(module: nn.Module) -> None:
    """Add every adapter within `module` into its layer and take it away."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())
