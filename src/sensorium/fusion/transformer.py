"""Multimodal Transformer: self-attention over the concatenated tokens of all modalities.

Input: tokens of each modality, any number of each. Output: all tokens, and one vector. There is one stack of
blocks for any number of modalities; attention costs O((sum of N_m)^2).
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
from sensorium.fusion.registry import FUSIONS, FusionOutput, block_config, check_min, concatenate
from sensorium.nn.block import Block, Stack
from sensorium.nn.pooling import AttentionPool
from sensorium.nn.position import LearnedPositions, grid_positions

_ROTARY_BASE = 100.0


class PatchAttention(nn.Module):
    """Single-head attention from all other tokens to image patches: y = z + V sum_m softmax_m(q·z_m) z_m.

    q = Q z / sqrt(D); m runs over the patches, which are returned unchanged. A word token then contains the
    position of what it names. Measured on a trained grounder: without it, word tokens explain .11 of the
    variance of an object's position, patch tokens .92.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, z: Tokens, is_patch: Bool[Tensor, " N"]) -> Float[Tensor, "B N D"]:
        """Return y; `is_patch` is True for image patches."""
        if not is_patch.any():
            return z.values
        patches, real = z.values[:, is_patch], z.mask[:, is_patch]
        scores = self.query(z.values) @ patches.mT * z.values.shape[-1] ** -0.5
        scores = scores.masked_fill(~real[:, None], torch.finfo(scores.dtype).min)
        update: Tensor = self.value(scores.softmax(dim=-1) @ patches)
        return z.values + update * ~is_patch[:, None]


@FUSIONS.register("transformer")
class JointTransformer(nn.Module):
    """Joint self-attention: Z = Stack([x_1; ...; x_M]), y = W p, where p is attention pooling of Z.

    It is the encoder of the multimodal language model: W Z is the memory of the decoder's cross-attention.
    Further arguments: `registry.FUSIONS` and `block_config`.

    Reference: Vaswani et al., arXiv:1706.03762; one sequence of several modalities: VisualBERT,
    arXiv:1908.03557, section 3.2, ViLT, arXiv:2102.03334, section 3.1.

    Args:
        depth: Blocks.
        places: Number of image patches, a square number; 0 = no positions here. Else patches get 2-D rotary
            and learned positions, all other tokens the position of the centre, and `PatchAttention` follows
            the blocks.
        after: Blocks after `PatchAttention`. They can compare positions of words ("left of"), which a decoder
            learns far later. They are initialised to the identity, up to the final norm.

    Raises:
        ConfigError: If `places` is not a square number, or is 0 while `after` is not.
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
        check_min(depth=depth)
        check_min(0, places=places, after=after)
        if isqrt(places) ** 2 != places:
            raise ConfigError(f"places={places}; expected a square number, rows x columns of the patch grid")
        if after and not places:
            raise ConfigError(f"after={after} without places; set places too, or use depth alone")
        rotary = {"rotary_axes": 2, "rotary_base": _ROTARY_BASE} if places else {}
        block = block_config(width, num_heads, mlp_dim, dropout, **rotary)
        self.stack = Stack(block, depth)
        self.after = _init_to_identity(Stack(block, after)) if after else None
        self.places = LearnedPositions(places, width) if places else None
        self.look = PatchAttention(width) if places else None
        self.leave = nn.Linear(width, out_dim)
        self.pool = AttentionPool(width)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        positions = None
        if self.places is not None:
            table = self.places.table
            positions = grid_coordinates(tokens, len(table))
            if "image" in tokens:
                tokens = {**tokens, "image": _add_positions(tokens["image"], table)}
        z = concatenate(tokens)
        z = Tokens(self.stack(z.values, z.mask, positions=positions), z.mask)
        if self.look is not None:
            z = Tokens(self.look(z, _is_patch(tokens)), z.mask)
        if self.after is not None:
            z = Tokens(self.after(z.values, z.mask, positions=positions), z.mask)
        return FusionOutput(self.leave(self.pool(z)), self.leave(z.values), z.mask)


def _init_to_identity(stack: Stack) -> Stack:
    """Zero the output layers of all residual branches: the stack is the identity, up to its norm."""
    for block in cast("Iterable[Block]", stack.blocks):
        for end in (block.attention.out, block.mlp.down):
            for parameter in end.parameters():
                nn.init.zeros_(parameter)
    return stack


def _add_positions(image: Tokens, table: Float[Tensor, "P D"]) -> Tokens:
    """Add learned positions; padding beyond the table gets none."""
    num = image.values.shape[1]
    positions = functional.pad(table[:num], (0, 0, 0, max(0, num - len(table))))
    return Tokens(image.values + positions, image.mask)


def _is_patch(tokens: Mapping[str, Tokens]) -> Bool[Tensor, " N"]:
    """True for the image tokens of the concatenated sequence."""
    parts = [torch.full((one.values.shape[1],), name == "image") for name, one in tokens.items()]
    return torch.cat(parts).to(next(iter(tokens.values())).values.device)


def grid_coordinates(tokens: Mapping[str, Tokens], num_patches: int) -> Int64[Tensor, "1 N 2"]:
    """Row and column of each token of the concatenated sequence; the centre for other modalities."""
    side = isqrt(num_patches)
    grid = grid_positions(side, side, next(iter(tokens.values())).values.device)
    middle = grid.new_full((1, 1, 2), side // 2)
    parts = []
    for name, one in tokens.items():
        num = one.values.shape[1]
        on_grid = grid[:, :num] if name == "image" else grid[:, :0]
        parts += [on_grid, middle.expand(1, num - on_grid.shape[1], 2)]
    return torch.cat(parts, dim=1)
