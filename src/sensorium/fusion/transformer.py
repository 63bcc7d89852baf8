"""The multimodal Transformer: the tokens of all modalities in one sequence, where each attends to all.

In: tokens of each modality, any number of each. Out: all of them, and one vector. One stack whatever the
number of modalities; the cost of attention grows with (sum of N_m)^2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isqrt
from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.errors import ConfigError
from sensorium.core.types import Tokens
from sensorium.fusion import cost
from sensorium.fusion.joining import join
from sensorium.fusion.options import block_config, check_least
from sensorium.fusion.registry import FUSIONS, FusionOutput
from sensorium.nn.block import Block, Stack
from sensorium.nn.pooling import AttentionPool
from sensorium.nn.position import LearnedPositions, grid_positions

_ROTARY_BASE = 100.0


class Look(nn.Module):
    """Let every token but an image's take in the place that it means: y = z + V sum_m softmax_m(q·z_m) z_m.

    With q = Q z / sqrt(D), one head, over the places. A word then carries where and what it names, and who
    reads it needs no second look; without, the words of a trained grounder tell of a thing's place .11 of the
    variance, its place .92.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, z: Tokens, is_place: Bool[Tensor, " N"]) -> Float[Tensor, "B N D"]:
        """Return z, of which the places are as they were."""
        if not is_place.any():
            return z.values
        places, real = z.values[:, is_place], z.mask[:, is_place]
        scores = self.query(z.values) @ places.mT * z.values.shape[-1] ** -0.5
        scores = scores.masked_fill(~real[:, None], torch.finfo(scores.dtype).min)
        seen: Tensor = self.value(scores.softmax(dim=-1) @ places)
        return z.values + seen * ~is_place[:, None]

    def flops(self, num_tokens: int, num_places: int) -> int:
        """Of one row."""
        width = self.query.out_features
        return cost.linear(self, num_tokens) + 4 * num_tokens * num_places * width if num_places else 0


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
            "left of" is one product, and each has a learned vector; all else stands at the middle, and looks
            at the places once more when all is met (`Look`). 0: where tokens stand is their own matter.
        after: Blocks after that look, where words that know where things are can be compared ("left of"); a
            decoder, which reads one after the other, learns that far later. They start by changing nothing.

    Raises:
        ConfigError: If `places` is no square number, or 0 while there are blocks `after` the look.
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
        after: int = 0,
    ) -> None:
        super().__init__()
        check_least(depth=depth)
        check_least(0, places=places, after=after)
        if isqrt(places) ** 2 != places:
            raise ConfigError(f"places={places}; expected a square number, rows x columns of an image's grid")
        if after and not places:
            raise ConfigError(f"after={after} without places; give places, or blocks by depth alone")
        turned = {"rotary_axes": 2, "rotary_base": _ROTARY_BASE} if places else {}
        block = block_config(width, num_heads, mlp_dim, dropout, **turned)
        self.stack = Stack(block, depth)
        self.after = _unchanging(Stack(block, after)) if after else None
        self.places = LearnedPositions(places, width) if places else None
        self.look = Look(width) if places else None
        self.leave = nn.Linear(width, out_dim)
        self.pool = AttentionPool(width)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        positions = None
        if self.places is not None:
            table = self.places.table
            positions = standing(tokens, len(table))
            tokens = {
                name: self._placed(one, table) if name == "image" else one for name, one in tokens.items()
            }
        together = join(tokens)
        z = Tokens(self.stack(together.values, together.mask, positions=positions), together.mask)
        if self.look is not None:
            z = Tokens(self.look(z, is_place(tokens)), z.mask)
        if self.after is not None:
            z = Tokens(self.after(z.values, z.mask, positions=positions), z.mask)
        return FusionOutput(self.leave(self.pool(z)), self.leave(z.values), z.mask)

    def _placed(self, image: Tokens, table: Float[Tensor, "P D"]) -> Tokens:
        """Add the learned vectors; padding has none."""
        num = image.values.shape[1]
        return Tokens(
            image.values + functional.pad(table[:num], (0, 0, 0, max(0, num - len(table)))), image.mask
        )

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row."""
        num_tokens = sum(lengths.values())
        pooling = cost.attention(self.pool.attention, 1, num_tokens)
        looking = 0 if self.look is None else self.look.flops(num_tokens, lengths.get("image", 0))
        stacks = sum(cost.stack(one, num_tokens) for one in (self.stack, self.after) if one is not None)
        return stacks + cost.linear(self.leave, num_tokens + 1) + pooling + looking


def _unchanging(stack: Stack) -> Stack:
    """A stack whose branches add nothing yet: what comes in goes out, but for the norm."""
    for block in cast("Iterable[Block]", stack.blocks):
        for end in (block.attention.out, block.mlp.down):
            for parameter in end.parameters():
                nn.init.zeros_(parameter)
    return stack


def is_place(tokens: Mapping[str, Tokens]) -> Bool[Tensor, " N"]:
    """Which tokens of a joined sequence are an image's."""
    parts = [torch.full((one.values.shape[1],), name == "image") for name, one in tokens.items()]
    return torch.cat(parts).to(next(iter(tokens.values())).values.device)


def standing(tokens: Mapping[str, Tokens], num_places: int) -> Int64[Tensor, "1 N 2"]:
    """Row and column of each token of a joined sequence: an image's on the grid, others in its middle."""
    side = isqrt(num_places)
    grid = grid_positions(side, side, next(iter(tokens.values())).values.device)
    middle = grid.new_full((1, 1, 2), side // 2)
    parts = []
    for name, one in tokens.items():
        num = one.values.shape[1]
        on_grid = grid[:, :num] if name == "image" else grid[:, :0]
        parts += [on_grid, middle.expand(1, num - on_grid.shape[1], 2)]
    return torch.cat(parts, dim=1)
