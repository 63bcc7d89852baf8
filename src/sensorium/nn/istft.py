"""Inverse short-time Fourier transform: inverse FFT, window, overlap-add.

Input: complex spectra (B, T, bins), frame i centred on sample i * hop. Output: samples (B, T * hop). It
inverts an STFT with the same window exactly. For other spectra it returns the least-squares signal (Griffin
and Lim, 1984). Samples depend only on nearby frames, so that audio can be decoded in chunks.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from sensorium.core.errors import UsageError


class InverseStft(nn.Module):
    """Windowed overlap-add, divided by the sum of squared windows.

    Args:
        window_size: Samples of a frame; an even multiple of `hop`.
        hop: Samples between frames.

    Attributes:
        reach: Frames on each side that one hop of samples depends on.

    Raises:
        UsageError: If the window size is not an even multiple of the hop.
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
