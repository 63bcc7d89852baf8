"""Spectral distances of two waveforms at several STFT resolutions: convergence, log-magnitude, log-mel.

Input: samples (B, S). Output: one scalar for each of the three terms. Phase is ignored. Short windows resolve
time, long windows resolve frequency, so each term is a mean over several window lengths.

Reference: multi-resolution STFT loss, arXiv:1910.11480, section 3.2; mel term of HiFi-GAN, arXiv:2010.05646,
equation 3, here at each resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.media.logmel import mel_filters

_FLOOR = 1e-3
"""Least magnitude before the logarithm: about 100 dB below a full-scale tone."""


@dataclass(frozen=True)
class SpectralLosses:
    """The three terms, each a mean over resolutions.

    Attributes:
        convergence: |A - B| / |A| of the magnitudes, Frobenius norms over a batch.
        magnitude: Mean absolute difference of the natural logarithms of the magnitudes.
        mel: The same of mel bands.
    """

    convergence: Float[Tensor, ""]
    magnitude: Float[Tensor, ""]
    mel: Float[Tensor, ""]


def spectral_losses(
    target: Float[Tensor, "B S"],
    predicted: Float[Tensor, "B S"],
    *,
    rate_hz: int = 16_000,
    windows: Sequence[int] = (256, 512, 1024),
    num_mels: Sequence[int] = (20, 40, 80),
) -> SpectralLosses:
    """Compare predicted waveforms with target waveforms.

    Args:
        target: Samples; S is at least half the longest window.
        predicted: Samples.
        rate_hz: Sample rate.
        windows: Window length of each resolution, in samples; the hop is a quarter of it.
        num_mels: Mel bands of each resolution.

    Example:
        >>> waves = torch.sin(torch.arange(2_000) / 7)[None]
        >>> terms = spectral_losses(waves, -waves)
        >>> float(terms.convergence), float(terms.mel)
        (0.0, 0.0)
    """
    terms = []
    for window, bands in zip(windows, num_mels, strict=True):
        a, b = _magnitudes(target, window), _magnitudes(predicted, window)
        convergence = torch.linalg.norm(a - b) / torch.linalg.norm(a).clamp_min(_FLOOR)
        filters = torch.from_numpy(mel_filters(bands, rate_hz, window).copy()).to(a)
        mels = [torch.einsum("bft,mf->bmt", part, filters) for part in (a, b)]
        terms.append(torch.stack([convergence, _log_distance(a, b), _log_distance(*mels)]))
    return SpectralLosses(*torch.stack(terms).mean(dim=0).unbind())


def _magnitudes(samples: Float[Tensor, "B S"], window: int) -> Float[Tensor, "B bins T"]:
    weights = torch.hann_window(window, device=samples.device, dtype=samples.dtype)
    spectrum = torch.stft(samples, window, window // 4, window=weights, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + _FLOOR**2).sqrt()


def _log_distance(a: Tensor, b: Tensor) -> Float[Tensor, ""]:
    return (a.clamp_min(_FLOOR).log() - b.clamp_min(_FLOOR).log()).abs().mean()
