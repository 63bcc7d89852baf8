"""The multimodal Transformer: the tokens of all modalities in one sequence, where each attends to all.

In: tokens of each modality, any number of each. Out: all of them, and one vector. One stack whatever the
number of modalities; the cost of attention grows with (sum of N_m)^2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from sensorium.core.types import Tokens
from sensorium.fusion import cost
from sensorium.fusion.joining import join
from sensorium.fusion.options import block_config, check_least
from sensorium.fusion.registry import FUSIONS, FusionOutput
from sensorium.nn.block import Stack
from sensorium.nn.pooling import AttentionPool


@FUSIONS.register("transformer")
class JointTransformer(nn.Module):
    """Joint self-attention: Z = Stack([x_1; ...; x_M]), y = W p, p a learned query's attention over Z.

    The encoder of the multimodal language model: its tokens, W Z, are the memory that a decoder attends to.

    Reference: Vaswani et al., arXiv:1706.03762; one sequence of several modalities: VisualBERT,
    arXiv:1908.03557, section 3.2, ViLT, arXiv:2102.03334, section 3.1.

    Args:
        modalities: Their names.
        width: Of x and Z, a multiple of the number of heads.
        out_dim: Of y and of the tokens that leave.
        depth: Blocks.
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
        num_heads: int | None = None,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_least(depth=depth)
        self.stack = Stack(block_config(width, num_heads, mlp_dim, dropout), depth)
        self.leave = nn.Linear(width, out_dim)
        self.pool = AttentionPool(width)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        together = join(tokens)
        z = Tokens(self.stack(together.values, together.mask), together.mask)
        return FusionOutput(self.leave(self.pool(z)), self.leave(z.values), z.mask)

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row."""
        num_tokens = sum(lengths.values())
        pooling = cost.attention(self.pool.attention, 1, num_tokens)
        return cost.stack(self.stack, num_tokens) + cost.linear(self.leave, num_tokens + 1) + pooling
