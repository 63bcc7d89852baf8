"""Frames of a short-time spectrum to samples: inverse FFT, window, overlap-add.

In: complex spectra (B, T, bins), frame i centred on sample i * hop. Out: samples (B, T * hop). Inverts a
short-time transform with the same window exactly; for spectra that belong to no signal it finds the nearest
that does, in least squares (Griffin and Lim, 1984). A stretch of samples depends on the frames near it alone,
which is what lets sound be decoded piece by piece.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from sensorium.core.errors import UsageError


class InverseStft(nn.Module):
    """Sum of windowed frames, over the sum of squared windows.

    Args:
        window_size: Samples of a frame; an even multiple of `hop`.
        hop: Samples between frames.

    Attributes:
        reach: Frames before and after its own that a hop of samples depends on.

    Raises:
        UsageError: If the window is not made of hops.
    """

    window: Tensor

    def __init__(self, window_size: int, hop: int) -> None:
        super().__init__()
        if hop < 1 or window_size % (2 * hop) or window_size < 2 * hop:
            raise UsageError(f"window of {window_size} samples, hop {hop}; expected 2, 4, 6... hops")
        self.window_size, self.hop = window_size, hop
        self.reach = window_size // hop // 2
        self.register_buffer("window", torch.hann_window(window_size), persistent=False)

    def forward(self, spectra: Complex[Tensor, "B T bins"]) -> Float[Tensor, "B S"]:
        """Return T * hop samples."""
        frames = torch.fft.irfft(spectra, n=self.window_size, dim=-1) * self.window
        weights = (self.window**2).expand(1, frames.shape[1], -1)
        return self._overlap(frames) / self._overlap(weights).clamp_min(1e-8)

    def _overlap(self, frames: Float[Tensor, "B T W"]) -> Float[Tensor, "B S"]:
        num, parts = frames.shape[1], self.window_size // self.hop
        pieces = frames.unflatten(-1, (parts, self.hop))
        total = frames.new_zeros(frames.shape[0], num + parts - 1, self.hop)
        for part in range(parts):
            total[:, part : part + num] += pieces[:, :, part]
        start = self.reach
        return total[:, start : start + num].flatten(1)
