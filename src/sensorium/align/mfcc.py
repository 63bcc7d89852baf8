"""Computes speaker-normalised MFCCs and sound activity, 50 frames a second.

Input: a mono signal at 16 kHz, in blocks. `mfcc` returns 20 numbers a frame: 10 mel cepstral coefficients
normalised by the speaker's mean and deviation, and their slopes. They are similar for a person and for a
synthesizer. The first coefficient (loudness) is left out. A frame is *active* if it is 10 dB above the
quietest frame of the half minute around it and within 30 dB of the loudest of the second around it; music is
active too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from sensorium.core.errors import UsageError
from sensorium.media.logmel import log_mel
from sensorium.media.loudness import LoudnessMeter

RATE_HZ = 16_000
FRAMES_A_SECOND = 50

_FRAME = RATE_HZ // FRAMES_A_SECOND
_NUM_MELS, _NUM_CEPSTRA = 40, 11
_FLOOR_BELOW_LOUD = 4.0
_LIFTER_END, _SLOPE_WEIGHT, _SLOPE_REACH = 0.5, 0.5, 3
_CHUNK_S = 20
_SILENCE_DB = -100.0
_ABOVE_QUIET_DB, _BELOW_LOUD_DB = 10.0, 30.0
_QUIET_FRAMES, _LOUD_FRAMES = 1500, 50
_FADE_DB = 6.0


@dataclass(frozen=True, eq=False)
class AudioFeatures:
    """Features of a signal, 50 frames a second.

    Attributes:
        mels: log10 mel energies, (T, 40).
        level_db: Power of each frame relative to full scale, (T,).
        speech: Speech probability, 0 to 1, (T,); None if it was not computed.
    """

    mels: Float32[np.ndarray, "T 40"]
    level_db: Float32[np.ndarray, " T"]
    speech: Float32[np.ndarray, " T"] | None = None

    def __len__(self) -> int:
        return len(self.level_db)


def audio_features(
    blocks: Iterable[Float32[np.ndarray, " _"]], *, tell_speech: bool = False
) -> AudioFeatures:
    """Compute features of a mono signal at 16 kHz in blocks of any size; they take 9 kB a second.

    Args:
        blocks: The signal.
        tell_speech: Whether to compute the speech probability (`media.loudness`).

    Raises:
        UsageError: If it is shorter than one frame.

    Example:
        >>> len(audio_features([np.zeros(8000, np.float32), np.zeros(8000, np.float32)]))
        50
    """
    mels: list[np.ndarray] = []
    levels: list[np.ndarray] = []
    pending: list[np.ndarray] = []
    num_pending, size = 0, _CHUNK_S * RATE_HZ
    listener = LoudnessMeter() if tell_speech else None
    for block in blocks:
        if listener is not None:
            listener.add(block)
        pending.append(block)
        num_pending += len(block)
        if num_pending >= size:
            joined = np.concatenate(pending)
            whole = len(joined) // size * size
            for start in range(0, whole, size):
                _describe(joined[start : start + size], mels, levels)
            pending, num_pending = [joined[whole:]], len(joined) - whole
    rest = np.concatenate(pending) if pending else np.zeros(0, np.float32)
    if len(rest) >= _FRAME:
        _describe(rest[: len(rest) // _FRAME * _FRAME], mels, levels)
    if not mels:
        raise UsageError(f"a sound of {len(rest)} samples; expected at least {_FRAME} (20 ms)")
    level_db = np.concatenate(levels)
    speech = None if listener is None else _stretched(listener.finish().speech, len(level_db))
    return AudioFeatures(np.concatenate(mels), level_db, speech)


def silence(level_db: Float32[np.ndarray, " T"]) -> Float32[np.ndarray, " T"]:
    """Silence of each frame: 0 in sound, 1 in silence, linear over 6 dB between them.

    Example:
        >>> level = np.float32([-90] * 50 + [-20] * 50)
        >>> silence(level)[[0, 99]].tolist()
        [1.0, 0.0]
    """
    smooth = np.convolve(np.pad(level_db, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    quiet = _around(smooth, _QUIET_FRAMES, np.minimum)
    loud = _around(level_db.astype(np.float64), _LOUD_FRAMES, np.maximum)
    bound = np.maximum(
        np.maximum(quiet + _ABOVE_QUIET_DB, loud - _BELOW_LOUD_DB), _SILENCE_DB + _ABOVE_QUIET_DB
    )
    share: np.ndarray = np.clip((bound - level_db) / _FADE_DB, 0, 1).astype(np.float32)
    return share


def mfcc(mels: Float32[np.ndarray, "T 40"], of_speaker: Bool[np.ndarray, " T"]) -> Float32[np.ndarray, "T D"]:
    """MFCCs and their slopes, normalised by mean and deviation over the speaker's frames.

    Args:
        mels: From `audio_features`.
        of_speaker: True for frames that mean and deviation are taken from; at least one.
    """
    floor = np.quantile(mels[of_speaker].max(axis=1), 0.95) - _FLOOR_BELOW_LOUD
    orders = np.arange(1, _NUM_CEPSTRA)[:, None]
    basis = np.cos(np.pi * orders * (np.arange(_NUM_MELS) + 0.5) / _NUM_MELS).astype(np.float32)
    values = np.maximum(mels, floor).astype(np.float32) @ basis.T
    lifter = np.linspace(1, _LIFTER_END, values.shape[1])
    return np.concatenate(
        [
            _normalised(values, of_speaker) * lifter,
            _normalised(_slopes(values), of_speaker) * _SLOPE_WEIGHT,
        ],
        axis=1,
    ).astype(np.float32)


def _stretched(speech: np.ndarray, num_frames: int) -> np.ndarray:
    """Repeat ten values a second to fifty."""
    repeated = np.repeat(speech, FRAMES_A_SECOND // 10)[:num_frames]
    return np.pad(repeated, (0, num_frames - len(repeated)), mode="edge").astype(np.float32)


def _describe(samples: np.ndarray, mels: list[np.ndarray], levels: list[np.ndarray]) -> None:
    fine = log_mel(samples, num_mels=_NUM_MELS, rate_hz=RATE_HZ)
    mels.append(fine.reshape(-1, 2, _NUM_MELS).mean(axis=1))
    power = np.mean(samples.reshape(-1, _FRAME).astype(np.float64) ** 2, axis=1)
    levels.append((10 * np.log10(np.maximum(power, 10 ** (_SILENCE_DB / 10)))).astype(np.float32))


def _normalised(values: np.ndarray, of_speaker: np.ndarray) -> np.ndarray:
    chosen = values[of_speaker]
    normalised: np.ndarray = (values - chosen.mean(axis=0)) / (chosen.std(axis=0) + 1e-6)
    return normalised


def _slopes(values: np.ndarray) -> np.ndarray:
    """Slope of a linear regression over the frames around each."""
    reach = np.arange(-_SLOPE_REACH, _SLOPE_REACH + 1)
    padded = np.pad(values, ((_SLOPE_REACH, _SLOPE_REACH), (0, 0)), mode="edge")
    shifted = np.lib.stride_tricks.sliding_window_view(padded, len(reach), axis=0)
    return shifted @ (reach / float((reach**2).sum()))


def _around(values: np.ndarray, width: int, best: np.ufunc) -> np.ndarray:
    """Running minimum or maximum over `width` frames, in linear time (van Herk)."""
    fill = np.inf if best is np.minimum else -np.inf
    before = width // 2
    size = -(-(len(values) + 2 * width) // width) * width
    padded = np.full(size, fill)
    padded[before : before + len(values)] = values
    blocks = padded.reshape(-1, width)
    onward = best.accumulate(blocks, axis=1).reshape(-1)
    back = best.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].reshape(-1)
    places = np.arange(len(values))
    around: np.ndarray = best(back[places], onward[places + width - 1])
    return around
