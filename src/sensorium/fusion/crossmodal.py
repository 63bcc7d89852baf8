"""Fusions in which each modality attends to each other one: pairwise cross-attention, and MulT.

In: tokens of each modality, any number of each. Out: those of every modality, enriched by the others, and
one vector. There are M (M - 1) stacks of blocks, so cost grows with the square of the number of modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.types import Tokens
from sensorium.fusion import cost
from sensorium.fusion.joining import join, means
from sensorium.fusion.options import block_config, check_least
from sensorium.fusion.registry import FUSIONS, FusionOutput
from sensorium.nn.block import Stack


@FUSIONS.register("cross_attention")
class CrossAttention(nn.Module):
    """Pairwise cross-modal attention: z_(s->t) = Stack_(s->t)(x_t, memory = x_s) for every s != t.

    In each block target t's tokens attend to themselves, then to the tokens of source s as they entered, then
    pass an MLP. What t learned from all its sources is joined, Z_t = W_t [z_(s->t) for all s], and
    y = V [mean Z_1; ...; mean Z_M]. With one modality Z_1 = W_1 x_1.

    Reference: MulT, arXiv:1906.00295, sections 3.1 and 3.2. There a cross-modal block has no self-attention
    of its own, and y takes the last token of Z_t; here it is the house's block and the mean.

    Args:
        modalities: Their names.
        width: Of x and z, a multiple of the number of heads.
        out_dim: Of y and of the tokens that leave.
        depth: Blocks of each of the M (M - 1) stacks.
        num_heads: Of every attention; default one for each 32 of `width`.
        mlp_dim: Inner width of the blocks' MLPs; default 4 `width`.
        dropout: Share of each part's output that is dropped in training.
        memory_depth: Blocks over each Z_t before it leaves; see `mult`.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        width: int,
        out_dim: int,
        *,
        depth: int = 1,
        num_heads: int | None = None,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
        memory_depth: int = 0,
    ) -> None:
        super().__init__()
        check_least(depth=depth)
        self.modalities = tuple(modalities)
        config = block_config(width, num_heads, mlp_dim, dropout)
        crossing = config.model_copy(update={"memory_dim": width, "gated_memory": False})
        num_sources = max(1, len(self.modalities) - 1)
        self.pairs = nn.ModuleDict(
            {
                target: nn.ModuleDict({source: Stack(crossing, depth) for source in self._sources(target)})
                for target in self.modalities
            }
        )
        self.join = nn.ModuleDict({name: nn.Linear(num_sources * width, width) for name in modalities})
        self.memory = nn.ModuleDict(
            {name: Stack(config, memory_depth) for name in modalities if memory_depth > 0}
        )
        self.leave = nn.ModuleDict({name: nn.Linear(width, out_dim) for name in modalities})
        self.out = nn.Linear(len(self.modalities) * out_dim, out_dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        enriched = {
            target: Tokens(self._enrich(target, tokens), tokens[target].mask) for target in self.modalities
        }
        pooled = self.out(torch.cat(means(enriched), dim=1))
        joined = join(enriched)
        return FusionOutput(pooled, joined.values, joined.mask)

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row."""
        total = cost.linear(self.out)
        for target in self.modalities:
            num = lengths[target]
            stacks = cast(nn.ModuleDict, self.pairs[target])
            total += sum(cost.stack(cast(Stack, stacks[one]), num, lengths[one]) for one in stacks)
            total += cost.linear(self.join[target], num) + cost.linear(self.leave[target], num)
            if target in self.memory:
                total += cost.stack(cast(Stack, self.memory[target]), num)
        return total

    def _enrich(self, target: str, tokens: Mapping[str, Tokens]) -> Float[Tensor, "B N E"]:
        own = tokens[target]
        streams = [
            stack(own.values, own.mask, memory=stack.memory_key_values(source.values, source.mask))
            for stack, source in (
                (cast(Stack, stack), tokens[name])
                for name, stack in cast(nn.ModuleDict, self.pairs[target]).items()
            )
        ]
        z = self.join[target](torch.cat(streams or [own.values], dim=2))
        z = self.memory[target](z, own.mask) if target in self.memory else z
        left: Tensor = self.leave[target](z)
        return left

    def _sources(self, target: str) -> list[str]:
        return [name for name in self.modalities if name != target]


@FUSIONS.register("mult")
def mult(
    modalities: Sequence[str],
    width: int,
    out_dim: int,
    *,
    depth: int = 1,
    memory_depth: int = 1,
    num_heads: int | None = None,
    mlp_dim: int | None = None,
    dropout: float = 0.0,
) -> CrossAttention:
    """MulT: pairwise cross-attention, then self-attention over what each target has gathered.

    Z_t = Stack_t(W_t [z_(s->t) for all s]); all else as in `CrossAttention`, whose arguments these are.

    Reference: Tsai et al., arXiv:1906.00295, section 3.2 ("self-attention transformer").
    """
    check_least(memory_depth=memory_depth)
    return CrossAttention(
        modalities,
        width,
        out_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_dim=mlp_dim,
        dropout=dropout,
        memory_depth=memory_depth,
    )
