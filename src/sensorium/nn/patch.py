"""Patch embedding of images and convolutional stem for audio frames.

Input: images (B, C, H, W) or frames (B, T, M). Output: tokens (B, N, D), for audio with the mask at the new
rate. No positions are added.
"""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.errors import UsageError


class ImagePatches(nn.Module):
    """Linear projection of non-overlapping image patches (ViT, arXiv:2010.11929, section 3.1).

    Args:
        patch_px: Side of a patch in pixels.
        dim: Width D.
        in_channels: Channels of the image.
    """

    def __init__(self, patch_px: int, dim: int, in_channels: int = 3) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.project = nn.Linear(in_channels * patch_px * patch_px, dim)
        nn.init.trunc_normal_(self.project.weight, std=self.project.in_features**-0.5)
        nn.init.zeros_(self.project.bias)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        """Return patches in row-major order; raises `UsageError` if a side is no multiple of the patch."""
        height, width = images.shape[2:]
        if height % self.patch_px or width % self.patch_px:
            raise UsageError(f"image of {height} x {width} px is not made of {self.patch_px} px patches")
        size = self.patch_px
        patches = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=size, q=size)
        tokens: Tensor = self.project(patches)
        return tokens


class TimeStem(nn.Module):
    """Two convolutions over time with GELU, as in Whisper (arXiv:2212.04356, section 2.2).

    Masked frames are zeroed before each convolution, so that padding does not change any token.

    Args:
        in_dim: Mel bands M of each frame.
        dim: Width D.
        strides: Strides of the two convolutions; the frame rate is divided by their product.
    """

    def __init__(self, in_dim: int, dim: int, strides: Sequence[int] = (1, 2)) -> None:
        super().__init__()
        self.first = nn.Conv1d(in_dim, dim, kernel_size=3, stride=strides[0], padding=1)
        self.second = nn.Conv1d(dim, dim, kernel_size=3, stride=strides[1], padding=1)

    def forward(
        self, frames: Float[Tensor, "B T M"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B N D"], Bool[Tensor, "B N"]]:
        """Return the tokens and their mask."""
        x = rearrange(frames, "b t m -> b m t").masked_fill(~mask[:, None], 0)
        for layer in (self.first, self.second):
            mask = mask[:, :: layer.stride[0]]
            x = functional.gelu(layer(x)).masked_fill(~mask[:, None], 0)
        return rearrange(x, "b d n -> b n d"), mask


def grid_size(images: Float[Tensor, "B C H W"], patch_px: int) -> tuple[int, int]:
    """Number of rows and columns of patches.

    Example:
        >>> grid_size(Tensor(1, 3, 32, 48), 16)
        (2, 3)
    """
    return images.shape[2] // patch_px, images.shape[3] // patch_px
