"""Residual convolutional networks (ResNet) over images and spectrograms.

Input: maps (B, C, H, W), and for spectrograms (H = time) a mask (B, H). Output: smaller maps with more
channels. Every layer zeroes the masked rows, so that padding does not change the result. The network is
ResNet (arXiv:1512.03385) with a single 3x3 convolution as its stem, without max pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["batch", "layer"]


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position, independent of other positions and samples.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise; needs no copy if `x` is channels-last."""
        normed = functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return normed.permute(0, 3, 1, 2)


class ConvNorm(nn.Module):
    """Convolution without bias, followed by a norm.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        kernel: Kernel size, odd.
        stride: Divides height and width, rounding up.
        norm: `batch` (for large batches without padding) or `layer` (over channels).
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, norm: Norm) -> None:
        super().__init__()
        # torch 2.13 writes past its memory in the backward pass of a strided 1x1 convolution of few channels
        # (8 to 16, channels-last, 5 images, 2 threads), so places are picked first and convolved afterwards.
        self.pick = stride if kernel == 1 else 1
        step = stride // self.pick
        self.conv = nn.Conv2d(in_channels, channels, kernel, step, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels) if norm == "batch" else ChannelNorm(channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Convolve and normalise."""
        out: Tensor = self.norm(self.conv(x[:, :, :: self.pick, :: self.pick]))
        return out


class ResidualConv(nn.Module):
    """Residual block: relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))).

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: Stride of the first convolution and of the shortcut.
        norm: As in `ConvNorm`.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.stride = stride
        self.first = ConvNorm(in_channels, channels, 3, stride, norm)
        self.second = ConvNorm(channels, channels, 3, 1, norm)
        changes = stride != 1 or in_channels != channels
        self.short = ConvNorm(in_channels, channels, 1, stride, norm) if changes else nn.Identity()

    def forward(self, x: Float[Tensor, "B C H W"], mask: Tensor | None = None) -> Float[Tensor, "B D h w"]:
        """Run the block; `mask` (B, h) refers to the rows of the output."""
        inner = mask_rows(functional.relu(self.first(x)), mask)
        return mask_rows(functional.relu(self.short(x) + self.second(inner)), mask)


class ConvStages(nn.Module):
    """Stem with stride 2, then stages of residual blocks; each stage but the first halves the resolution.

    Args:
        in_channels: Input channels.
        widths: Channels of each stage.
        depths: Number of blocks of each stage.
        norm: As in `ConvNorm`.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], depths: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.stem = ConvNorm(in_channels, widths[0], 3, 2, norm)
        blocks: list[ResidualConv] = []
        channels = widths[0]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for place in range(depth):
                stride = 2 if number > 0 and place == 0 else 1
                blocks.append(ResidualConv(channels, width, stride, norm))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self._last_of_stage = [sum(depths[: number + 1]) - 1 for number in range(len(depths))]
        self.num_channels = channels
        self.stride = 2 ** len(widths)

    def forward(
        self, x: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B H"] | None = None
    ) -> tuple[Float[Tensor, "B D h w"], Bool[Tensor, "B h"] | None]:
        """Return the last map and, if a mask was given, the mask of its rows."""
        maps, mask = self.maps(x, mask)
        return maps[-1], mask

    def maps(
        self, x: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B H"] | None = None
    ) -> tuple[list[Float[Tensor, "B _ _ _"]], Bool[Tensor, "B h"] | None]:
        """Return the last map of each stage, fine to coarse, and the row mask of the coarsest."""
        x = mask_rows(x.contiguous(memory_format=torch.channels_last), mask)
        mask = None if mask is None else mask[:, ::2]
        x = mask_rows(functional.relu(self.stem(x)), mask)
        maps = []
        for number, block in enumerate(self.blocks):
            mask = mask if mask is None or block.stride == 1 else mask[:, :: block.stride]
            x = block(x, mask)
            if number in self._last_of_stage:
                maps.append(x)
        return maps, mask


class FeaturePyramid(nn.Module):
    """Feature pyramid network: merge maps of several scales into the finest one.

    Each map is projected; coarser maps are enlarged bilinearly and added. Position i of a coarser map is
    aligned with position 2i of the finer one, because strided convolutions place it there.

    Args:
        in_channels: Channels of each map, fine to coarse.
        channels: Output channels.

    Reference:
        Lin et al. (FPN), arXiv:1612.03144, section 3; bilinear, without the convolution after each sum.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B D h w"]:
        """Return a map with the height and width of the first input."""
        merged: Tensor = self.lateral[-1](maps[-1])
        for lateral, finer in zip(reversed(self.lateral[:-1]), reversed(maps[:-1]), strict=True):
            merged = lateral(finer) + _doubled(merged)[..., : finer.shape[-2], : finer.shape[-1]]
        return merged


def _doubled(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C _ _"]:
    """Enlarge to 2h + 1 rows and 2w + 1 columns: original values, and means of neighbours between them."""
    framed = functional.pad(x, (0, 1, 0, 1), mode="replicate")
    height, width = x.shape[-2:]
    size = (2 * height + 1, 2 * width + 1)
    doubled: Tensor = functional.interpolate(framed, size, mode="bilinear", align_corners=True)
    return doubled


def mask_rows(x: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B H"] | None) -> Float[Tensor, "B C H W"]:
    """Set the masked rows (True = real) to zero, including NaN."""
    return x if mask is None else x.masked_fill(~mask[:, None, :, None], 0)
