"""How far two sounds lie apart to the ear: spectra at several resolutions, phases left alone.

In: samples (B, S). Out: one number for each term. Short windows hear when, long ones at what pitch; no one
window hears both (multi-resolution STFT, arXiv:1910.11480, section 3.2; mel bands as in HiFi-GAN,
arXiv:2010.05646, equation 3, at each resolution).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.media.logmel import mel_filters

_FLOOR = 1e-3
"""Of magnitudes before the logarithm: some 100 dB below a full-scale tone, as good as silence."""


@dataclass(frozen=True)
class SoundTerms:
    """Terms, each a mean over resolutions.

    Attributes:
        convergence: |A - B| / |A| of the magnitudes, Frobenius norms over a batch.
        magnitude: Mean absolute difference of their natural logarithms.
        mel: The same in mel bands.
    """

    convergence: Float[Tensor, ""]
    magnitude: Float[Tensor, ""]
    mel: Float[Tensor, ""]


def sound_terms(
    wanted: Float[Tensor, "B S"],
    given: Float[Tensor, "B S"],
    *,
    rate_hz: int = 16_000,
    windows: Sequence[int] = (256, 512, 1024),
    num_mels: Sequence[int] = (20, 40, 80),
) -> SoundTerms:
    """Compare two sounds.

    Args:
        wanted: What should be heard; at least half the longest window.
        given: What is heard.
        rate_hz: Samples a second.
        windows: Of each resolution, in samples; frames are a quarter apart.
        num_mels: Bands of each.

    Example:
        >>> waves = torch.sin(torch.arange(2_000) / 7)[None]
        >>> terms = sound_terms(waves, -waves)
        >>> float(terms.convergence), float(terms.mel)
        (0.0, 0.0)
    """
    found = [
        _at_one(wanted, given, rate_hz, window, bands)
        for window, bands in zip(windows, num_mels, strict=True)
    ]
    means = torch.stack([torch.stack(terms) for terms in found]).mean(dim=0)
    return SoundTerms(*means.unbind())


def _at_one(
    wanted: Tensor, given: Tensor, rate_hz: int, window: int, bands: int
) -> tuple[Tensor, Tensor, Tensor]:
    a, b = _magnitudes(wanted, window), _magnitudes(given, window)
    convergence = torch.linalg.norm(a - b) / torch.linalg.norm(a).clamp_min(_FLOOR)
    filters = torch.from_numpy(mel_filters(bands, rate_hz, window).copy()).to(a)
    heard = [torch.einsum("bft,mf->bmt", part, filters) for part in (a, b)]
    return convergence, _apart(a, b), _apart(heard[0], heard[1])


def _magnitudes(samples: Float[Tensor, "B S"], window: int) -> Float[Tensor, "B bins T"]:
    weights = torch.hann_window(window, device=samples.device, dtype=samples.dtype)
    spectrum = torch.stft(samples, window, window // 4, window=weights, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + _FLOOR**2).sqrt()


def _apart(a: Tensor, b: Tensor) -> Float[Tensor, ""]:
    return (a.clamp_min(_FLOOR).log() - b.clamp_min(_FLOOR).log()).abs().mean()
