"""Measures loudness and speech likelihood of an audio track, ten times a second, in constant memory.

Input: mono blocks at 16 kHz, in order. Output: level in dB and speech likelihood for each 0.1 s. The
likelihood is a logistic function of three features, averaged over a second, that do not depend on loudness.
They are: modulation of the 300-3,500 Hz energy at syllable rate, spectral flux, and alternation of voiced and
unvoiced sounds. The weights were fitted on half of 386 spoken captions and half of 107 sound effects,
synthetic chords and noise. On the other halves the ROC AUC is .75 against sound effects, .97 against chords
and 1.0 against noise. Animal calls are often taken for speech.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from sensorium.media.logmel import log_mel

RATE_HZ = 16_000
STEP_S = 0.1
SILENCE_DB = -80.0
_MELS = 40
_CHUNK_S = 20
_PER_STEP = 10
# Of the 40 mel bands: 300 to 3,500 Hz, 80 to 600 Hz, and above 3,000 Hz.
_VOICE, _LOW, _HIGH = slice(6, 30), slice(2, 10), slice(24, 38)
_FLOOR = 1e-7
_SYLLABLE, _PHRASE, _SECOND = 5, 25, 100
_WEIGHTS, _BIAS = (2.5, 4.2, 2.6), -6.4


@dataclass(frozen=True, eq=False)
class LoudnessTrack:
    """Loudness over time; entry i covers the 0.1 s from i / 10 s on.

    Attributes:
        level_db: RMS level in decibels below full scale; -80 is silence.
        speech: Likelihood of speech, 0 to 1.
    """

    level_db: Float32[np.ndarray, " n"]
    speech: Float32[np.ndarray, " n"]

    def between(self, start_s: int | float, end_s: int | float) -> tuple[float, float]:
        """Mean power as a level in dB, and mean speech likelihood; silence outside the track."""
        part = slice(int(start_s / STEP_S), max(int(np.ceil(end_s / STEP_S)), int(start_s / STEP_S) + 1))
        if not len(self.level_db[part]):
            return SILENCE_DB, 0.0
        power = float(np.mean(10 ** (self.level_db[part].astype(np.float64) / 10)))
        return 10 * float(np.log10(power)), float(self.speech[part].mean())


class LoudnessMeter:
    """Accumulates audio blocks and returns the loudness track.

    Example:
        >>> listener = LoudnessMeter()
        >>> listener.add(np.zeros(24_000, np.float32))
        >>> track = listener.finish()
        >>> len(track.level_db), float(track.level_db.max()), float(track.speech.max())
        (15, -80.0, 0.0)
    """

    def __init__(self) -> None:
        self._pending: list[np.ndarray] = []
        self._num_pending = 0
        self._levels: list[np.ndarray] = []
        self._measures: list[np.ndarray] = []

    def add(self, samples: Float32[np.ndarray, " T"]) -> None:
        """Add the next block, mono at 16 kHz."""
        self._pending.append(samples)
        self._num_pending += len(samples)
        size = _CHUNK_S * RATE_HZ
        if self._num_pending >= size:
            joined = np.concatenate(self._pending)
            whole = len(joined) // size * size
            for start in range(0, whole, size):
                self._measure(joined[start : start + size])
            self._pending, self._num_pending = [joined[whole:]], len(joined) - whole

    def finish(self) -> LoudnessTrack:
        """Return the loudness track."""
        rest = np.concatenate(self._pending) if self._pending else np.empty(0, np.float32)
        if len(rest):
            step = round(RATE_HZ * STEP_S)
            self._measure(np.pad(rest, (0, -len(rest) % step)))
        self._pending, self._num_pending = [], 0
        if not self._levels:
            return LoudnessTrack(np.empty(0, np.float32), np.empty(0, np.float32))
        levels = np.concatenate(self._levels)
        speech = _speech(np.concatenate(self._measures).astype(np.float64))
        return LoudnessTrack(levels, np.where(levels > SILENCE_DB + 20, speech, 0.0).astype(np.float32))

    def _measure(self, samples: Float32[np.ndarray, " T"]) -> None:
        """Level of each tenth of a second; voice energy, tilt and flux of each hundredth."""
        power = np.mean(samples.reshape(-1, round(RATE_HZ * STEP_S)).astype(np.float64) ** 2, axis=1)
        floor = 10 ** (SILENCE_DB / 10)
        self._levels.append((10 * np.log10(np.maximum(power, floor))).astype(np.float32))
        mel = log_mel(samples, num_mels=_MELS, rate_hz=RATE_HZ)
        energy = 10.0**mel
        voice, low, high = (np.log10(energy[:, part].sum(axis=1) + _FLOOR) for part in (_VOICE, _LOW, _HIGH))
        flux = np.zeros(len(mel))
        flux[2:] = np.abs(mel[2:, 4:32] - mel[:-2, 4:32]).mean(axis=1)
        self._measures.append(np.stack([voice, low - high, flux], axis=1).astype(np.float32))


def _speech(measures: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, " steps"]:
    voice, tilt, flux = measures.T
    syllables = _smooth(voice, _SYLLABLE) - _smooth(voice, _PHRASE)
    swing = np.sqrt(_smooth(syllables**2, _SECOND))
    turns = np.sqrt(np.maximum(_smooth(tilt**2, _SECOND) - _smooth(tilt, _SECOND) ** 2, 0))
    logit = np.stack([swing, _smooth(flux, _SECOND), turns], axis=1) @ np.array(_WEIGHTS) + _BIAS
    likelihood: np.ndarray = 1 / (1 + np.exp(-logit[_PER_STEP // 2 :: _PER_STEP]))
    return likelihood


def _smooth(values: Float[np.ndarray, " n"], width: int) -> Float64[np.ndarray, " n"]:
    """Mean over `width` values around each; less at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    places = np.arange(len(values))
    low, high = np.maximum(places - width // 2, 0), np.minimum(places + width - width // 2, len(values))
    means: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return means
