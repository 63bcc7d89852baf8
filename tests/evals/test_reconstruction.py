"""PSNR, SSIM, mel distance and code usage, by value."""

import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.evals.reconstruction import code_usage, mel_distance, psnr, ssim


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """A picture of waves, and the same with noise, cut and made lighter."""
    rows, columns = np.mgrid[0:37, 0:53]
    waves = np.stack([np.sin(rows / (3 + k)) * np.cos(columns / (5 - k)) for k in range(3)], axis=-1)
    a = (127 + 120 * waves).astype(np.uint8)
    rng = np.random.default_rng(11)
    return a, np.clip(a + rng.normal(9, 17, a.shape), 0, 255).astype(np.uint8)


def test_ssim_is_that_of_scikit_image() -> None:  # 0.26.0
    a, b = pictures()
    assert ssim(a, b) == pytest.approx(0.8567162094253148, abs=1e-9)
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, b) == pytest.approx(ssim(b, a))
    assert ssim(a, 255 - a) < 0
    with pytest.raises(UsageError, match="sides of 11 or more"):
        ssim(a[:10], b[:10])


def test_psnr_is_its_closed_form() -> None:
    a, b = pictures()
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 / np.mean((a / 1.0 - b / 1.0) ** 2)))
    assert psnr(a, a) == np.inf


def test_a_factor_of_ten_in_power_is_ten_decibels() -> None:
    frames = np.random.default_rng(3).normal(size=(7, 5)).astype(np.float32)
    assert mel_distance(frames, frames + 1) == pytest.approx(10, rel=1e-6)
    assert mel_distance(frames, frames) == 0


def test_usage_counts_what_occurs() -> None:
    even = code_usage(np.arange(7), 7)
    assert even["codes used"] == 1
    assert even["perplexity"] == pytest.approx(7)
    assert code_usage(np.full((3, 5), 2), 4) == {"codes used": 0.25, "perplexity": 1.0}
