"""Fusion through a few tokens that all modalities share: what passes between them must fit in there.

In: tokens of each modality, any number of each. Out: all of them, then the shared ones, and one vector. Cost
grows with the sum over modalities of N_m^2, not with (sum of N_m)^2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.types import Tokens
from sensorium.fusion import cost
from sensorium.fusion.joining import join
from sensorium.fusion.options import block_config, check_least
from sensorium.fusion.registry import FUSIONS, FusionOutput
from sensorium.nn.block import Stack
from sensorium.nn.pooling import AttentionPool


@FUSIONS.register("bottleneck")
class Bottleneck(nn.Module):
    """Attention bottlenecks: in layer l, [x_m; f_m] = Block_m^l([x_m; f]) for each m, then f = mean_m f_m.

    Each modality has its own blocks and sees the others only through the shared tokens f. y is a learned
    query's attention over all tokens.

    Reference: MBT, arXiv:2107.00135, section 3. There y averages the modalities' class tokens, and
    modalities meet from a middle layer on; here from the first, for the encoders are the layers before.

    Args:
        modalities: Their names.
        width: Of x and f, a multiple of the number of heads.
        out_dim: Of y and of the tokens that leave.
        depth: Layers, at least 2: what the first writes into f is read by the second.
        num_bottlenecks: How many shared tokens.
        num_heads: Of every attention; default one for each 32 of `width`.
        mlp_dim: Inner width of the blocks' MLPs; default 4 `width`.
        dropout: Share of each part's output that is dropped in training.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        width: int,
        out_dim: int,
        *,
        depth: int = 2,
        num_bottlenecks: int = 4,
        num_heads: int | None = None,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_least(2, depth=depth)
        check_least(num_bottlenecks=num_bottlenecks)
        config = block_config(width, num_heads, mlp_dim, dropout)
        self.depth = depth
        self.shared = nn.Parameter(
            0.02 * torch.randn(num_bottlenecks, width)
        )  # small: what is heard drowns it
        self.stacks = nn.ModuleDict({name: Stack(config, depth) for name in modalities})
        self.leave = nn.Linear(width, out_dim)
        self.pool = AttentionPool(width)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        own = dict(tokens)
        num_rows = len(next(iter(own.values())).values)
        shared = self.shared.expand(num_rows, -1, -1)
        for layer in range(self.depth):
            heard = []
            for name, one in own.items():
                values, said = self._layer(name, layer, one, shared)
                own[name] = Tokens(values, one.mask)
                heard.append(said)
            shared = torch.stack(heard).mean(dim=0)
        together = _append(join(own), shared)
        pooled = self.leave(self.pool(together))
        return FusionOutput(pooled, self.leave(together.values), together.mask)

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row."""
        num_shared = len(self.shared)
        num_tokens = sum(lengths[name] for name in self.stacks) + num_shared
        inside = sum(cost.stack(self._stack(name), lengths[name] + num_shared) for name in self.stacks)
        pooling = cost.attention(self.pool.attention, 1, num_tokens)
        return inside + cost.linear(self.leave, num_tokens + 1) + pooling

    def _layer(
        self, name: str, layer: int, own: Tokens, shared: Float[Tensor, "B F D"]
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B F D"]]:
        """One modality's block over its own tokens and the shared ones, and its norm after the last."""
        both, stack = _append(own, shared), self._stack(name)
        values = stack.blocks[layer](both.values, both.mask)
        values = stack.norm(values) if layer == self.depth - 1 else values
        length = own.mask.shape[1]
        return values[:, :length], values[:, length:]

    def _stack(self, name: str) -> Stack:
        return cast(Stack, self.stacks[name])


def _append(own: Tokens, shared: Float[Tensor, "B F D"]) -> Tokens:
    real = torch.ones(shared.shape[:2], dtype=torch.bool, device=shared.device)
    return join({"own": own, "shared": Tokens(shared, real)})
