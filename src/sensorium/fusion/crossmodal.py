"""Pairwise cross-attention between modalities, and MulT.

Input: tokens of each modality, any number of each. Output: updated tokens of every modality, and one vector.
There are M (M - 1) stacks of blocks, so cost grows with the square of the number of modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.types import Tokens
from sensorium.fusion.registry import FUSIONS, FusionOutput, block_config, check_min, concatenate, means
from sensorium.nn.block import Stack


@FUSIONS.register("cross_attention")
class CrossAttention(nn.Module):
    """Pairwise cross-modal attention: z_(s->t) = Stack_(s->t)(x_t, memory = x_s) for every s != t.

    In each block the tokens of target t attend to themselves, then to the input tokens of source s, then pass
    an MLP. The results are concatenated and projected, Z_t = W_t [z_(s->t) for all s], and
    y = V [mean Z_1; ...; mean Z_M]. With one modality Z_1 = W_1 x_1. Further arguments: `registry.FUSIONS`
    and `block_config`.

    Reference: MulT, arXiv:1906.00295, sections 3.1 and 3.2. There a cross-modal block has no self-attention,
    and y takes the last token of Z_t instead of the mean.

    Args:
        depth: Blocks of each of the M (M - 1) stacks.
        memory_depth: Self-attention blocks over each Z_t; see `mult`.
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
        check_min(depth=depth)
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
        updated = {one: Tokens(self._update(one, tokens), tokens[one].mask) for one in self.modalities}
        pooled = self.out(torch.cat(means(updated), dim=1))
        sequence = concatenate(updated)
        return FusionOutput(pooled, sequence.values, sequence.mask)

    def _update(self, target: str, tokens: Mapping[str, Tokens]) -> Float[Tensor, "B N E"]:
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
        output: Tensor = self.leave[target](z)
        return output

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
    """MulT: pairwise cross-attention, then self-attention over the result of each target.

    Z_t = Stack_t(W_t [z_(s->t) for all s]); otherwise `CrossAttention`, with the same arguments.

    Reference: Tsai et al., arXiv:1906.00295, section 3.2 ("self-attention transformer").
    """
    check_min(memory_depth=memory_depth)
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
