"""Convolution over frames in time, one block: what is near in time, then each frame for itself.

In and out: frames (B, T, D). ConvNeXt (arXiv:2201.03545) in one dimension, as Vocos has it (arXiv:2306.00814,
section 3.2): a depthwise convolution, layer norm, a wide MLP, all beside the input, scaled per channel.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ConvNeXtBlock(nn.Module):
    """x + scale * down(gelu(up(norm(depthwise(x))))); frames beyond the ends are zeros.

    Args:
        dim: Width D.
        hidden_dim: Of the MLP.
        kernel: Frames that a frame sees, odd.
        scale: Of the branch at the start; 1 / depth keeps a deep stack calm.
    """

    def __init__(self, dim: int, hidden_dim: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.near = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.up = nn.Linear(dim, hidden_dim)
        self.down = nn.Linear(hidden_dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Run the block."""
        inner = rearrange(self.near(rearrange(x, "b t d -> b d t")), "b d t -> b t d")
        branch: Tensor = self.down(functional.gelu(self.up(self.norm(inner))))
        return x + self.scale * branch


class ConvNeXt1d(nn.Module):
    """A convolution to the width, then blocks.

    Args:
        in_dim: Width of the frames that come in.
        dim: Width D.
        depth: Blocks.
        kernel: Of every convolution, odd.
        widen: Hidden width of each block's MLP over D.

    Attributes:
        reach: Frames before and after it that a frame depends on.
    """

    def __init__(self, in_dim: int, dim: int, depth: int, kernel: int, widen: int) -> None:
        super().__init__()
        self.reach = (depth + 1) * (kernel // 2)
        self.first = nn.Conv1d(in_dim, dim, kernel, padding=kernel // 2)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(dim, widen * dim, kernel, 1 / max(1, depth)) for _ in range(depth)
        )

    def forward(self, x: Float[Tensor, "B T M"]) -> Float[Tensor, "B T D"]:
        """Run the stack."""
        x = self.norm(rearrange(self.first(rearrange(x, "b t m -> b m t")), "b d t -> b t d"))
        for block in self.blocks:
            x = block(x)
        return x
