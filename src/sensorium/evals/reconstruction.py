"""Reconstruction metrics of codecs: PSNR, SSIM, log-mel distance, and usage of the code book.

Input: arrays of the original and the reconstruction, or code ids. Output: numbers. SSIM as published (Wang et
al., 2004): Gaussian window of 11 with sigma 1.5, population variances, mean over valid positions and
channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from sensorium.core.errors import UsageError

_RADIUS, _SIGMA = 5, 1.5
_K1, _K2 = 0.01, 0.03
_FULL = 255.0


def psnr(a: UInt8[np.ndarray, "H W C"], b: UInt8[np.ndarray, "H W C"]) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared error); infinity for equal images.

    Example:
        >>> grey = np.full((2, 2, 3), 100, np.uint8)
        >>> round(psnr(grey, grey + 1), 2), psnr(grey, grey)
        (48.13, inf)
    """
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(_FULL**2 / error))


def ssim(a: UInt8[np.ndarray, "H W C"], b: UInt8[np.ndarray, "H W C"]) -> float:
    """Structural similarity (SSIM); 1 for equal images.

    Raises:
        UsageError: If the images differ in shape or are smaller than the window.

    Reference:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004), eq. 13;
        skimage's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`.
    """
    side = 2 * _RADIUS + 1
    if a.shape != b.shape or min(a.shape[:2]) < side:
        raise UsageError(f"ssim of {a.shape} and {b.shape}; expected equal shapes, sides of {side} or more")
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * _FULL) ** 2, (_K2 * _FULL) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(np.mean(above / below))


def _blur(x: Float64[np.ndarray, "H W C"]) -> Float64[np.ndarray, "h w C"]:
    """Gaussian-weighted mean of each valid window."""
    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    rows = np.lib.stride_tricks.sliding_window_view(x, len(weights), axis=0) @ weights
    blurred: np.ndarray = np.lib.stride_tricks.sliding_window_view(rows, len(weights), axis=1) @ weights
    return blurred


def mel_distance(a: np.ndarray, b: np.ndarray, *, floor: float = -np.inf) -> float:
    """Mean absolute difference in dB of two log-mel arrays of equal shape, given as log10 of power.

    Values below `floor` are replaced by it.
    """
    clipped_a, clipped_b = (np.maximum(part.astype(np.float64), floor) for part in (a, b))
    return float(10 * np.mean(np.abs(clipped_a - clipped_b)))


def code_usage(ids: Int64[np.ndarray, ...], vocab_size: int) -> Mapping[str, float]:
    """Share of the vocabulary that occurs, and perplexity of the ids.

    Returns:
        `codes used`: share of ids that occur; `perplexity`: exp of the entropy in nats, at most `vocab_size`.

    Example:
        >>> code_usage(np.array([0, 0, 1, 1]), 8)
        {'codes used': 0.25, 'perplexity': 2.0}
    """
    counts = np.bincount(ids.ravel(), minlength=vocab_size)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-np.sum(shares * np.log(shares)))
    return {"codes used": len(shares) / vocab_size, "perplexity": round(float(np.exp(entropy)), 6)}
