"""Computes log-mel features: a short-time power spectrum on the mel scale, as logarithm to base 10.

Input: a mono signal. Output: (frames, bands). The features are those of Whisper's front end (arXiv
2212.04356, section 2.2; `whisper.audio.log_mel_spectrogram`) with `librosa.filters.mel` and its defaults:

- windows of 25 ms every 10 ms, periodic Hann, centred: the signal is reflected by half a window at both ends;
- power |X|^2; the frame that is centred on the end of the signal is dropped;
- triangular filters on Slaney's mel scale from 0 Hz to half the sample rate, each of area 1;
- log10 of at least 1e-10.

Only precision differs: sums are in float64, the result is float32. Whisper computes in float32, whose
rounding shows where a band is 1e7 times below the loudest. Callers pad and cut to the length a model needs.

`FrameWindows` computes the features of audio of any length, one window at a time, in constant memory. Its
frames equal those of `log_mel` over the whole signal, scaled by the window's maximum and padded with zeros.
faster-whisper scales by the maximum of the whole file, which a stream does not know; for audio up to one
window both are equal. On 60 synthetic sentences, padding with features of silence as in Whisper's own code
gave no better WER (.344 and .348).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64

from sensorium.core.errors import UsageError

WINDOW_S = 0.025
HOP_S = 0.010
FLOOR = -10.0
"""Log10 of the least energy."""
_BLOCK_FRAMES = 4096
RATE_HZ, HOP = 16_000, 160
FRAMES_A_SECOND = RATE_HZ // HOP
_CONTEXT = 2
"""Frames beside a window that its own look into."""
_DECADES = 8.0


def log_mel(
    samples: Float32[np.ndarray, " T"], *, num_mels: int = 80, rate_hz: int = 16_000
) -> Float32[np.ndarray, "frames num_mels"]:
    """Compute log10 mel energies, 100 frames a second.

    Args:
        samples: Mono signal, (T,), T >= 1; one shorter than a window is padded with zeros to one.
        num_mels: Bands.
        rate_hz: Sample rate of `samples`.

    Returns:
        (T // hop, num_mels), at least -10.

    Raises:
        UsageError: If there are no samples, or no room for so many bands.

    Reference:
        `whisper.audio.log_mel_spectrogram` up to and including the logarithm.

    Example:
        >>> log_mel(np.zeros(16_000, np.float32)).shape
        (100, 80)
        >>> float(log_mel(np.zeros(16_000, np.float32)).max())
        -10.0
    """
    window_size, hop = round(rate_hz * WINDOW_S), round(rate_hz * HOP_S)
    if len(samples) == 0:
        raise UsageError("log_mel of no samples; give at least one")
    if hop < 1 or not 1 <= num_mels <= window_size // 2:
        raise UsageError(f"num_mels={num_mels}: expected 1 to {window_size // 2} at {rate_hz} Hz")
    signal = np.pad(samples, (0, max(0, window_size - len(samples))))
    frames = _frames(signal, window_size, hop)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_size) / window_size)
    filters = mel_filters(num_mels, rate_hz, window_size).T
    features = np.empty((len(frames), num_mels), np.float32)
    for start in range(0, len(frames), _BLOCK_FRAMES):
        spectrum = np.fft.rfft(frames[start : start + _BLOCK_FRAMES] * window)
        energies = (spectrum.real**2 + spectrum.imag**2) @ filters
        features[start : start + _BLOCK_FRAMES] = np.log10(np.maximum(energies, 10.0**FLOOR))
    return features


def whisper_log_mel(
    samples: Float32[np.ndarray, " T"], *, num_mels: int = 80
) -> Float32[np.ndarray, "frames num_mels"]:
    """Log-mel as Whisper's encoder takes it: at most 8 below the maximum, then (x + 4) / 4.

    The maximum is that of the whole signal given, as in Whisper; pad to 30 s first where the model wants it.

    Args:
        samples: Mono signal at 16 kHz, (T,).
        num_mels: Bands: 80, or 128 for the large models.

    Returns:
        (T // 160, num_mels), about -1 to 1.5; spread at most 2.
    """
    features = log_mel(samples, num_mels=num_mels)
    scaled: np.ndarray = (np.maximum(features, features.max() - 8.0) + 4.0) / 4.0
    return scaled


@lru_cache(maxsize=8)
def mel_filters(num_mels: int, rate_hz: int, window_size: int) -> Float64[np.ndarray, "num_mels bins"]:
    """Triangular filters over the bins of a real FFT, each of area 1 in Hz (`norm="slaney"`).

    Reference:
        M. Slaney, Auditory Toolbox (1998); `librosa.filters.mel(htk=False, norm="slaney")`.
    """
    bins_hz = np.linspace(0, rate_hz / 2, window_size // 2 + 1)
    edges_hz = _mel_to_hz(np.linspace(0, _hz_to_mel(rate_hz / 2), num_mels + 2))
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    filters.setflags(write=False)
    return filters


# Slaney's scale: linear below 1 kHz (15 mel), then 27 mel for each factor of 6.4.
_MEL_HZ = 200 / 3
_BREAK_HZ, _BREAK_MEL = 1000.0, 15.0
_MELS_PER_LOG = 27 / np.log(6.4)


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _MEL_HZ
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) * _MELS_PER_LOG)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    above = _BREAK_HZ * np.exp((mel - _BREAK_MEL) / _MELS_PER_LOG)
    return np.where(mel < _BREAK_MEL, mel * _MEL_HZ, above)


def _frames(signal: np.ndarray, window_size: int, hop: int) -> np.ndarray:
    """Overlapping windows centred on every hop, without the one at the very end; a view."""
    padded = np.pad(signal, window_size // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window_size)[::hop]
    return windows[: len(signal) // hop]


@dataclass(frozen=True, eq=False)
class Window:
    """Log-mel frames of one window.

    Attributes:
        frames: (T, M) for a window of T frames, scaled; 0 after the end of the audio.
        num_real: Number of frames before the end of the audio.
        peak: Log10 of the greatest energy; below -8 is inaudible, 16-bit noise is louder.
        is_last: Whether the audio ends in this window.
    """

    frames: Float32[np.ndarray, "T M"]
    num_real: int
    peak: float
    is_last: bool


class FrameWindows:
    """Windows of `num_frames` frames with `num_mels` bands over a stream of mono blocks at 16 kHz.

    Example:
        >>> windows = FrameWindows([np.ones(8_000, np.float32)] * 5, num_mels=80, num_frames=200)
        >>> [windows.window(start).num_real for start in (0, 100, 200, 300)]
        [200, 150, 50, 0]
    """

    def __init__(self, blocks: Iterable[Float32[np.ndarray, " _"]], num_mels: int, num_frames: int) -> None:
        self._blocks = iter(blocks)
        self._num_mels, self._num_frames = num_mels, num_frames
        self._samples = np.zeros(0, np.float32)
        self._first = 0  # frame at which the kept samples begin
        self._is_whole = False

    def window(self, start: int) -> Window:
        """Return the window that starts at frame `start`; earlier audio is discarded."""
        first = max(start - _CONTEXT, 0)
        assert first >= self._first, "windows go forward"
        self._read(start + self._num_frames + _CONTEXT + 1)
        self._samples = self._samples[(first - self._first) * HOP :]
        self._first = first
        num_real = self._num_frames
        if self._is_whole:
            num_real = min(max(first + len(self._samples) // HOP - start, 0), num_real)
        is_last = self._is_whole and start + num_real >= first + len(self._samples) // HOP
        frames = self._frames(start - first, num_real)
        peak = float(frames.max())
        scaled = (np.maximum(frames, peak - _DECADES) + 4.0) / 4.0
        scaled[num_real:] = 0
        return Window(scaled, num_real, peak, is_last)

    def _read(self, end: int) -> None:
        """Read blocks until frame `end` or the end of the audio."""
        parts, count = [self._samples], self._first * HOP + len(self._samples)
        while count < end * HOP and not self._is_whole:
            block = next(self._blocks, None)
            if block is None:
                self._is_whole = True
            else:
                parts.append(block)
                count += len(block)
        self._samples = np.concatenate(parts)

    def _frames(self, skipped: int, count: int) -> Float32[np.ndarray, "T M"]:
        frames = np.full((self._num_frames, self._num_mels), FLOOR, np.float32)
        if count:
            size = (skipped + count + _CONTEXT + 1) * HOP
            samples = self._samples[:size]
            heard = log_mel(np.pad(samples, (0, size - len(samples))), num_mels=self._num_mels)
            frames[:count] = heard[skipped : skipped + count]
        return frames
