"""L1 distance of two images over the levels of a Laplacian pyramid.

Input: pixels (B, C, H, W). Output: a scalar. The Laplacian pyramid (Burt and Adelson, 1983) holds the detail
of an image at each scale. A sum of L1 norms over the levels penalises blurred edges more than a pixel loss.

Reference: Lap1 loss, arXiv:1707.05776, section 3.2; here without weights for the levels.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def laplacian_pyramid(x: Float[Tensor, "B C H W"], num_levels: int) -> Iterator[Float[Tensor, "B C h w"]]:
    """Yield the detail of each scale, finest first, then the coarsest image; upsampled, they add up to `x`.

    Args:
        x: Images with sides divisible by 2^`num_levels`.
        num_levels: Number of scales, >= 0.
    """
    for _ in range(num_levels):
        coarse = functional.avg_pool2d(x, 2)
        yield x - upsample(coarse)
        x = coarse
    yield x


def upsample(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
    """Double height and width by bilinear interpolation."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def pyramid_l1(
    a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"], num_levels: int = 3
) -> Float[Tensor, ""]:
    """Sum over pyramid levels of the mean absolute difference.

    Example:
        >>> import torch
        >>> float(pyramid_l1(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)))
        1.0
    """
    levels = laplacian_pyramid(a - b, num_levels)
    return sum((level.abs().mean() for level in levels), start=a.new_zeros(()))
