"""Log-mel features against a plain double-precision implementation that shares nothing with ours."""

import math

import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.media.logmel import log_mel, mel_filters, whisper_log_mel


def plain_log_mel(samples: np.ndarray, num_mels: int) -> np.ndarray:
    """Whisper's front end by the definitions: an explicit DFT matrix, loops, double precision."""
    size, hop, rate = 400, 160, 16_000
    window = np.array([0.5 * (1 - math.cos(2 * math.pi * n / size)) for n in range(size)])
    turns = np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(size // 2 + 1)) / size)
    mirrored = np.concatenate([samples[size // 2 : 0 : -1], samples, samples[-2 : -size // 2 - 2 : -1]])
    power = []
    for start in range(0, len(samples) // hop * hop, hop):
        power.append(np.abs((mirrored[start : start + size].astype(np.float64) * window) @ turns) ** 2)
    return np.log10(np.maximum(np.array(power) @ plain_filters(num_mels, size, rate).T, 1e-10))


def plain_filters(num_mels: int, size: int, rate: int) -> np.ndarray:
    def hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * math.log(rate / 2 / 1000) / math.log(6.4)
    edges = [hz(top * number / (num_mels + 1)) for number in range(num_mels + 2)]
    filters = np.zeros((num_mels, size // 2 + 1))
    for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for number in range(size // 2 + 1):
            pitch = number * rate / size
            if low < pitch <= centre:
                filters[band, number] = (pitch - low) / (centre - low)
            elif centre < pitch < high:
                filters[band, number] = (high - pitch) / (high - centre)
        filters[band] *= 2 / (high - low)
    return filters


def chirp(num_samples: int) -> np.ndarray:
    times = np.arange(num_samples) / 16_000
    noise = np.random.default_rng(11).standard_normal(num_samples)
    return (0.4 * np.sin(2 * np.pi * (150 + 900 * times) * times) + 0.02 * noise).astype(np.float32)


@pytest.mark.parametrize("num_mels", [64, 80, 128])
@pytest.mark.parametrize("num_samples", [401, 479, 480, 481, 16_001, 23_011])
def test_equals_the_reference(num_mels, num_samples):
    samples = chirp(num_samples)
    features = log_mel(samples, num_mels=num_mels)
    assert features.shape == (num_samples // 160, num_mels)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, plain_log_mel(samples, num_mels), atol=1e-5)


def test_long_signals_are_worked_in_blocks_without_seams():
    samples = np.tile(chirp(16_000), 43)  # 4300 frames, more than one block
    features = log_mel(samples)
    np.testing.assert_allclose(features[300:4200], np.tile(features[300:400], (39, 1)), atol=1e-5)


@pytest.mark.parametrize("num_mels", [64, 80])
def test_filters_have_area_one_and_cover_the_band(num_mels):
    filters = mel_filters(num_mels, 16_000, 4000)
    np.testing.assert_allclose(filters.sum(axis=1) * 4, 1, rtol=0.02)
    assert (np.diff(filters.argmax(axis=1)) > 0).all()


def test_scaling_shifts_and_silence_is_the_floor():
    samples = chirp(8000)
    loud, soft = log_mel(samples), log_mel(samples / 10)
    np.testing.assert_allclose(loud - soft, 2, atol=1e-4)
    assert (log_mel(np.zeros(7919, np.float32)) == -10).all()


@pytest.mark.parametrize("num_samples", [1, 2, 159, 160, 200, 201, 399, 400])
def test_short_signals_are_padded_with_zeros(num_samples):
    samples = chirp(num_samples)
    padded = np.concatenate([samples, np.zeros(400 - num_samples, np.float32)])
    features = log_mel(samples)
    assert features.shape == (2, 80)
    np.testing.assert_array_equal(features, log_mel(padded))


def test_a_tone_peaks_in_its_band():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    centres = mel_filters(80, 16_000, 400).argmax(axis=1) * 40
    assert abs(centres[log_mel(tone)[50].argmax()] - 1000) <= 40


def test_whisper_normalisation():
    samples = chirp(16_000)
    features = log_mel(samples)
    expected = (np.maximum(features, features.max() - 8) + 4) / 4
    np.testing.assert_allclose(whisper_log_mel(samples), expected, atol=1e-6)
    assert np.ptp(whisper_log_mel(np.concatenate([samples, np.zeros(16_000, np.float32)]))) <= 2 + 1e-6


def test_other_rates_keep_25_and_10_ms():
    assert log_mel(chirp(44_100), num_mels=64, rate_hz=44_100).shape == (100, 64)


def test_what_cannot_be_computed_is_refused():
    with pytest.raises(UsageError, match="no samples"):
        log_mel(np.zeros(0, np.float32))
    with pytest.raises(UsageError, match="num_mels=201"):
        log_mel(np.zeros(800, np.float32), num_mels=201)
