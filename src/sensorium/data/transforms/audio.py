"""Audio to normalised log-mel frames, 100 per second.

Input: an `Audio` of any rate and channel count, or a `Video` with audio. Output: float32 (T, M), T >= 1.
Augmentation: random crop, shift and gain, then time and frequency masks (SpecAugment, arXiv:1904.08779,
without time warping).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import UsageError
from sensorium.media.logmel import log_mel
from sensorium.media.types import Audio, Media, Video

_SHORTEST_S = 0.1


@dataclass(frozen=True)
class AudioInput:
    """Log-mel frames of audio.

    Attributes:
        num_mels: Mel bands M.
        max_s: Longest audio used: its beginning, or in training a random crop.
        rate_hz: Sample rate of the analysis.
        mean: Subtracted from the log-mel values.
        std: Divides them.
        shift_s: In training, at most this much silence is prepended.
        gain_db: In training, the gain is in [-gain_db, gain_db].
        time_mask_s: In training, the longest time mask (there are two).
        mel_mask: In training, the most bands of a frequency mask (there are two).
    """

    num_mels: int = 80
    max_s: float = 10.0
    rate_hz: int = 16_000
    mean: float = -3.6
    std: float = 2.3
    shift_s: float = 0.1
    gain_db: float = 6.0
    time_mask_s: float = 0.2
    mel_mask: int = 8

    def __call__(
        self, media: Media | str, rng: np.random.Generator | None = None
    ) -> Float32[np.ndarray, "T M"]:
        """Return the normalised frames, augmented if `rng` is given.

        Raises:
            UsageError: If `media` has no audio.
        """
        samples = audio_of(media).mono(self.rate_hz)
        samples = self._cut(samples, rng)
        if rng is not None:
            silence = np.zeros(int(rng.uniform(0, self.shift_s) * self.rate_hz), dtype=np.float32)
            gain = 10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)
            samples = np.concatenate([silence, samples * np.float32(gain)])
        values = log_mel(samples, num_mels=self.num_mels, rate_hz=self.rate_hz)
        values = ((values - np.float32(self.mean)) / np.float32(self.std)).astype(np.float32)
        return values if rng is None else self._mask(values, rng)

    def _cut(self, samples: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        longest = int(self.max_s * self.rate_hz)
        surplus = len(samples) - longest
        start = 0 if rng is None or surplus <= 0 else int(rng.integers(surplus + 1))
        samples = samples[start : start + longest]
        missing = int(_SHORTEST_S * self.rate_hz) - len(samples)
        return np.pad(samples, (0, missing)) if missing > 0 else samples

    def _mask(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        masked = values.copy()
        longest = min(int(self.time_mask_s * 100), len(values) // 4)
        for _ in range(2):
            length = int(rng.integers(longest + 1))
            start = int(rng.integers(len(values) - length + 1))
            masked[start : start + length] = 0
            bands = int(rng.integers(min(self.mel_mask, self.num_mels // 4) + 1))
            lowest = int(rng.integers(self.num_mels - bands + 1))
            masked[:, lowest : lowest + bands] = 0
        return masked


def audio_of(media: Media | str) -> Audio:
    """The audio of a medium.

    Raises:
        UsageError: If it has none.
    """
    if isinstance(media, Audio):
        return media
    if isinstance(media, Video) and media.audio is not None:
        return media.audio
    got = "a Video without audio" if isinstance(media, Video) else type(media).__name__
    raise UsageError(f"an audio encoder got {got}; give an Audio or a Video with audio")
