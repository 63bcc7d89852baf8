"""How far two pictures lie apart: by pixel, and by detail at every scale.

In: pixels (B, C, H, W). Out: one number. A pixel's error says little of an edge that is lost; the Laplacian
pyramid (Burt and Adelson, 1983) splits a picture into the details of each scale, and an L1 norm of each
(Lap1, arXiv:1707.05776, section 3.2) asks for sharp edges and right areas alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def laplacian_pyramid(x: Float[Tensor, "B C H W"], num_levels: int) -> Iterator[Float[Tensor, "B C h w"]]:
    """Yield the details of each scale, finest first, and what is left; they add up to `x` when enlarged.

    Args:
        x: Pictures whose sides can be halved `num_levels` times.
        num_levels: Scales, 0 or more.
    """
    for _ in range(num_levels):
        coarse = functional.avg_pool2d(x, 2)
        yield x - enlarge(coarse)
        x = coarse
    yield x


def enlarge(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
    """Twice the size, by bilinear interpolation."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def pyramid_l1(
    a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"], num_levels: int = 3
) -> Float[Tensor, ""]:
    """Sum over scales of the mean absolute difference of their details.

    Example:
        >>> import torch
        >>> float(pyramid_l1(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)))
        1.0
    """
    scales = laplacian_pyramid(a - b, num_levels)
    return sum((scale.abs().mean() for scale in scales), start=a.new_zeros(()))
