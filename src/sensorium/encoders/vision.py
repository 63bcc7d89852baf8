"""Image encoders: a CNN and a Vision Transformer.

Input: normalised images (B, 3, H, W) of any size that the strides divide. Output: tokens (B, N, D) in
row-major order, without padding: positions of the last feature map, or patches. `first_px` is the centre of
the first token in pixels: a strided convolution is centred on every s-th pixel from the first one, a patch on
its own centre.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor, nn

from sensorium.core.errors import ConfigError, UsageError
from sensorium.core.types import Padded, Tokens
from sensorium.data.transforms import ImageInput
from sensorium.encoders.registry import ENCODERS, input_of
from sensorium.nn.block import BlockConfig, Stack
from sensorium.nn.conv import ConvStages, FeaturePyramid
from sensorium.nn.patch import ImagePatches, grid_size
from sensorium.nn.position import LearnedPositions, grid_positions


@ENCODERS.register("image-cnn")
class ImageCNN(nn.Module):
    """Residual CNN (ResNet); tokens are the positions of its last feature map, after a ReLU.

    Args:
        width: Channels of the first stage; each further stage has twice as many.
        depths: Number of residual blocks of each stage; size_px / 2^stages should be 2 to 8.
        norm: `batch`, or `layer` over channels, which is independent of other images and positions.
        places: `apart`: one token per position; `joined`: one token with the concatenated positions, which
            keeps the layout, for images with a fixed framing such as emoji.
        merged: Number of last stages whose maps are merged into the finest (`nn.conv.FeaturePyramid`).
        size_px: Side of the images; joined places take only this size.
        input: Further options of `ImageInput`.

    Raises:
        ConfigError: If there are fewer stages than maps to merge.

    Reference: arXiv:1512.03385; here smaller, and without max pooling.
    """

    modality = "image"

    def __init__(
        self,
        *,
        width: int = 32,
        depths: Sequence[int] = (1, 1, 1, 1),
        norm: Literal["batch", "layer"] = "batch",
        places: Literal["apart", "joined"] = "apart",
        merged: int = 1,
        size_px: int = 64,
        input: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.input = input_of(ImageInput, {"size_px": size_px, "mode": "pad"}, input)
        if not 1 <= merged <= len(depths):
            raise ConfigError(f"merged={merged} of {len(depths)} stages; give 1 to {len(depths)}")
        widths = [width * 2**stage for stage in range(len(depths))]
        self.stages = ConvStages(3, widths, depths, norm)
        channels = self.stages.num_channels
        self.top_down = FeaturePyramid(widths[-merged:], channels) if merged > 1 else None
        self.merged = merged
        self.first_px = 0.5
        self.is_joined, self.size_px = places == "joined", size_px
        side = -(-size_px // (self.stages.stride // 2 ** (merged - 1)))
        self.dim = channels * (side**2 if self.is_joined else 1)

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, 3, H, W) images.

        Raises:
            UsageError: If places are joined and the images have another size.
        """
        height, width = inputs.values.shape[-2:]
        if self.is_joined and (height, width) != (self.size_px, self.size_px):
            raise UsageError(f"images of {width} x {height} px; joined places need {self.size_px} px square")
        maps, _ = self.stages.maps(inputs.values)
        features = maps[-1] if self.top_down is None else self.top_down(maps[-self.merged :])
        layout = "b d h w -> b 1 (h w d)" if self.is_joined else "b d h w -> b (h w) d"
        values = rearrange(features, layout)
        return Tokens(values, all_real(values))


@ENCODERS.register("image-vit")
class ImageViT(nn.Module):
    """Vision Transformer; tokens are its patches.

    Args:
        width: Width D.
        depth: Number of blocks.
        num_heads: Number of attention heads; default: one per 32 of width.
        patch_px: Side of a patch in pixels.
        positions: `rotary` along rows and columns (any image size), or `learned` (only `size_px`).
        drop_path: Probability that an image skips a sublayer in training.
        size_px: Side of the images.
        input: Further options of `ImageInput`.

    Reference: arXiv:2010.11929; here without a class token, with rotary positions in two axes.
    """

    modality = "image"

    def __init__(
        self,
        *,
        width: int = 192,
        depth: int = 6,
        num_heads: int | None = None,
        patch_px: int = 8,
        positions: Literal["rotary", "learned"] = "rotary",
        drop_path: float = 0.0,
        size_px: int = 64,
        input: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.dim = width
        self.first_px = patch_px / 2
        self.input = input_of(ImageInput, {"size_px": size_px, "mode": "pad"}, input)
        self.patches = ImagePatches(patch_px, width)
        is_learned = positions == "learned"
        self.positions = LearnedPositions((size_px // patch_px) ** 2, width) if is_learned else None
        heads = max(1, width // 32) if num_heads is None else num_heads
        axes = 0 if is_learned else 2
        self.stack = Stack(
            BlockConfig(dim=width, num_heads=heads, rotary_axes=axes, rotary_base=100.0, drop_path=drop_path),
            depth,
        )

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, 3, H, W) images whose sides are multiples of the patch."""
        x = self.patches(inputs.values)
        if self.positions is not None:
            values = self.stack(self.positions(x))
        else:
            rows, columns = grid_size(inputs.values, self.patches.patch_px)
            values = self.stack(x, positions=grid_positions(rows, columns, x.device))
        return Tokens(values, all_real(values))


def all_real(values: Tensor) -> Bool[Tensor, "B N"]:
    """Mask of tokens (B, N, D) without padding."""
    return torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
