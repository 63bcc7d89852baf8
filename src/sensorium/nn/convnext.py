"""One-dimensional ConvNeXt over frames in time.

Input and output: frames (B, T, D). A block is a depthwise convolution, layer norm and a wide MLP on a
residual branch with a learned scale per channel. It is ConvNeXt (arXiv:2201.03545) in one dimension, as in
Vocos (arXiv:2306.00814, section 3.2).
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block: x + scale * down(gelu(up(norm(depthwise(x))))), zero-padded at both ends.

    Args:
        dim: Width D.
        hidden_dim: Inner width of the MLP.
        kernel: Kernel size in frames, odd.
        scale: Initial scale of the residual branch; 1 / depth keeps a deep stack stable.
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
    """Convolution to width D, followed by ConvNeXt blocks.

    Args:
        in_dim: Width of the input frames.
        dim: Width D.
        depth: Number of blocks.
        kernel: Kernel size of every convolution, odd.
        widen: Ratio of the MLP's inner width to D.

    Attributes:
        reach: Receptive field: frames on each side that an output frame depends on.
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
