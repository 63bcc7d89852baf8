"""The multimodal Transformer: the tokens of all modalities in one sequence, where each attends to all.

In: tokens of each modality, any number of each. Out: all of them, and one vector. One stack whatever the
number of modalities; the cost of attention grows with (sum of N_m)^2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from sensorium.core.types import Tokens
from sensorium.fusion import cost
from sensorium.fusion.joining import join
from sensorium.fusion.options import block_config, check_least
from sensorium.fusion.registry import FUSIONS, FusionOutput
from sensorium.nn.block import Stack
from sensorium.nn.pooling import AttentionPool
from sensorium.nn.position import LearnedPositions, grid_positions

_ROTARY_BASE = 100.0


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
        places: Of an image, a square number: queries and keys are turned by their row and column, so that
            "left of" is one product, and each has a learned vector; all else stands at the middle. 0: where
            tokens stand is their own matter.
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
        places: int = 0,
    ) -> None:
        super().__init__()
        check_least(depth=depth)
        check_least(0, places=places)
        turned = {"rotary_axes": 2, "rotary_base": _ROTARY_BASE} if places else {}
        self.stack = Stack(block_config(width, num_heads, mlp_dim, dropout, **turned), depth)
        self.places = LearnedPositions(places, width) if places else None
        self.leave = nn.Linear(width, out_dim)
        self.pool = AttentionPool(width)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        positions = None
        if self.places is not None:
            positions = standing(tokens)
            tokens = {name: self._placed(one) if name == "image" else one for name, one in tokens.items()}
        together = join(tokens)
        z = Tokens(self.stack(together.values, together.mask, positions=positions), together.mask)
        return FusionOutput(self.leave(self.pool(z)), self.leave(z.values), z.mask)

    def _placed(self, image: Tokens) -> Tokens:
        """Add the learned vectors; an absent image's single token has none."""
        if self.places is None or image.values.shape[1] != len(self.places.table):
            return image
        return Tokens(self.places(image.values), image.mask)

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row."""
        num_tokens = sum(lengths.values())
        pooling = cost.attention(self.pool.attention, 1, num_tokens)
        return cost.stack(self.stack, num_tokens) + cost.linear(self.leave, num_tokens + 1) + pooling


def standing(tokens: Mapping[str, Tokens]) -> Int64[Tensor, "1 N 2"]:
    """Row and column of each token of a joined sequence: on an image's grid, of others at its middle."""
    lengths = {name: one.values.shape[1] for name, one in tokens.items()}
    side = isqrt(lengths.get("image", 1))
    device = next(iter(tokens.values())).values.device
    grid = grid_positions(side, side, device)
    middle = torch.full((1, 1, 2), side // 2, dtype=torch.int64, device=device)
    parts = [
        grid if name == "image" and side**2 == num else middle.expand(1, num, 2)
        for name, num in lengths.items()
    ]
    return torch.cat(parts, dim=1)
