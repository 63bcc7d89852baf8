"""The distance between sounds: blind to sign, closed forms, gradients that are finite in silence."""

import numpy as np
import pytest
import torch

from sensorium.losses.spectral import spectral_losses
from sensorium.media.logmel import mel_filters


def noise(seed: int = 3) -> torch.Tensor:
    return torch.randn(2, 4_001, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_sound_is_no_distance_from_itself_nor_from_its_negative() -> None:
    for other in (noise(), -noise()):
        terms = spectral_losses(noise(), other)
        assert float(terms.convergence) == float(terms.magnitude) == float(terms.mel) == 0


def test_a_gain_is_its_logarithm() -> None:
    terms = spectral_losses(noise(), 3 * noise())
    assert float(terms.magnitude) == pytest.approx(np.log(3), rel=1e-4)
    assert float(terms.mel) == pytest.approx(np.log(3), rel=1e-4)
    assert float(terms.convergence) == pytest.approx(2, rel=1e-4)


def test_one_resolution_is_the_formula() -> None:
    a, b = noise(3)[0], noise(4)[0]
    window = np.hanning(65)[:-1]
    parts = []
    for samples in (a.numpy(), b.numpy()):
        padded = np.pad(samples, 32, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, 64)[::16] * window
        parts.append(np.sqrt(np.abs(np.fft.rfft(frames)) ** 2 + 1e-6))
    terms = spectral_losses(a[None], b[None], windows=[64], num_mels=[7])
    heard = [part @ mel_filters(7, 16_000, 64).T for part in parts]
    norm = np.linalg.norm
    assert float(terms.convergence) == pytest.approx(norm(parts[0] - parts[1]) / norm(parts[0]))
    assert float(terms.magnitude) == pytest.approx(np.abs(np.log(parts[0]) - np.log(parts[1])).mean())
    logs = [np.log(np.maximum(part, 1e-3)) for part in heard]
    assert float(terms.mel) == pytest.approx(np.abs(logs[0] - logs[1]).mean())


def test_silence_has_a_finite_gradient() -> None:
    given = torch.zeros(1, 4_001, requires_grad=True)
    terms = spectral_losses(noise()[:1].float(), given)
    (terms.convergence + terms.magnitude + terms.mel).backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    silent = spectral_losses(torch.zeros(1, 4_001), torch.zeros(1, 4_001))
    assert float(silent.convergence) == float(silent.mel) == 0
