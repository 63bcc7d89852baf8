"""Low-rank adaptation (LoRA) of linear layers.

    y = W x + (alpha / r) B A x        W is frozen; A (r x in) and B (out x r) are trained, B starts at 0

An adapted layer starts equal to its base layer, bit for bit (arXiv:2106.09685, section 4.1). `adapt` replaces
named linear layers of a module by adapted ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.errors import ConfigError


class LoRALinear(nn.Module):
    """Linear layer with a low-rank adapter.

    Args:
        base: The layer to adapt; its parameters are frozen.
        rank: Rank r of the adapter.
        alpha: Scale of the adapter; its output is multiplied by alpha / r.
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


def adapt(module: nn.Module, layers: Sequence[str], rank: int, alpha: float | None = None) -> int:
    """Add an adapter to every linear layer with one of these names.

    Args:
        module: Changed in place.
        layers: Last components of the layer names, such as `query` and `value`.
        rank: Rank of the adapters.
        alpha: Scale of the adapters; default twice the rank.

    Returns:
        Number of adapted layers.

    Raises:
        ConfigError: If no layer has such a name.
    """
    found = [
        (parent, name)
        for parent in list(module.modules())
        for name, child in parent.named_children()
        if name in layers and isinstance(child, nn.Linear)
    ]
    if not found:
        raise ConfigError(f"no linear layer is called {', '.join(layers)}; name some, as ['query', 'value']")
    for parent, name in found:
        setattr(parent, name, LoRALinear(getattr(parent, name), rank, 2.0 * rank if alpha is None else alpha))
    return len(found)
