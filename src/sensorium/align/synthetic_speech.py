"""Aligns words to a recording without a trained model, by DTW to synthetic speech of the text.

Input: features of both signals, and the word of each synthetic frame. Output: first and last frame of each
word in the recording, with a confidence. Local distances are cosines of normalised MFCCs (`mfcc`).

The state sequence is the synthetic speech without its pauses, with wait states between words. A word may be
up to twice as fast as the synthesizer. Waiting is free in silence and costly in sound; entering a wait state
costs where the text has no stop. After a passage there is also a noise state for music, applause or other
speakers. It costs less than a wrong word, least where the sound is unlike speech (`media.loudness`). Costs
are relative to the distance of an arbitrary speech frame, so they adapt to the noise of the recording.

Long recordings are aligned at 12 frames a second first, then at 50 in a band of 20 s around that path. Words
are wrong, with low confidence, where the text skips or repeats what was said.

Reference: Malfrere & Dutoit 1997, with silence and noise states as in a recogniser.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sensorium.align.ctc import WordSpan
from sensorium.align.mfcc import AudioFeatures, mfcc, silence
from sensorium.align.viterbi import TILE_STEPS, Band, best_path
from sensorium.core.errors import UsageError

Stop = Literal["none", "short", "long"]
"""Pause after a word: none, a comma or the like, or the end of a sentence or line."""

_WAIT, _NOISE = -1, -2
_SKIP_COST, _SILENT_WORD_COST = 2.0, 2.0
_WAIT_OVER_BACKGROUND, _SILENT_NOISE_COST = 1.6, 0.5
_NOISE_OVER_BACKGROUND, _CLEAR_NOISE_OVER_BACKGROUND = 0.7, 0.3
_NO_SPEECH_COST = 1.0
_LIKELY_SHARE, _OF_LIKELY, _LIKELY_BOUNDS = 0.75, 0.6, (0.05, 0.5)
_ENTER_NOISE_COST = 15.0
_ENTER_WAIT_COST = {"none": 60.0, "short": 15.0, "long": 0.0}
_NUM_BACKGROUND, _BACKGROUND_SHARE = 300, 0.4
_DISTANCE_SCALE = 5.0
_COARSE_FRAMES = 4
_EXACT_CELLS = 400_000_000
_BAND_FRAMES = 1000
_BLOCK_FRAMES = 1 << 13


@dataclass(frozen=True, eq=False)
class Script:
    """Synthetic speech of a text: word of each frame, ascending, -1 in a pause; pause after each word."""

    features: AudioFeatures
    word_of: Int64[np.ndarray, " M"]
    stops: list[Stop]


def align_speech(recording: AudioFeatures, script: Script) -> list[WordSpan]:
    """Find when each word of `script` is said in `recording`.

    The confidence is based on the share of arbitrary speech frames that fit the sound worse than the word's
    frames: 0 where half do (chance), 1 where nearly all do. A word without synthetic frames lies where its
    neighbours meet and has confidence 0.

    Args:
        recording: Speech of the text, with or without silence and other sounds between its passages.
        script: Synthetic speech of the text.

    Raises:
        UsageError: If there is no word, the recording is silent, or it is too short for the text.
    """
    active = silence(recording.level_db) < 0.5
    if not active.any() or recording.level_db.max() < -70:
        raise UsageError("the recording is silent or steady noise; no words can lie there")
    spoken = script.word_of >= 0
    if not spoken.any():
        raise UsageError("the text has no word that can be spoken; expected letters or digits")
    reference = mfcc(script.features.mels, spoken)[spoken]
    no_speech = _unlike_speech(recording, active)
    sound = _unit(mfcc(recording.mels, active))
    task = _Warp(sound, silence(recording.level_db), no_speech, _unit(reference))
    states = _States.build(script.word_of[spoken], script.stops, 1)
    if len(recording) * len(states.frames) <= _EXACT_CELLS:
        band = None
    else:
        band = _coarse_band(task, script.word_of[spoken], script.stops, states)
    frames = states.frames[task.align(states, band)]
    return _spans(task, frames, script.word_of[spoken], len(script.stops))


@dataclass(frozen=True, eq=False)
class _States:
    """The state sequence: for each state its synthetic frame, or `_WAIT` or `_NOISE`.

    `words` is the word that a state belongs to or follows; `moves` as in `best_path`.
    """

    frames: np.ndarray
    words: np.ndarray
    moves: np.ndarray

    @staticmethod
    def build(word_of: Int64[np.ndarray, " M"], stops: list[Stop], frame_weight: int) -> _States:
        """Build the states; each synthetic frame stands for `frame_weight` frames of the recording."""
        free, never = 0.0, -np.inf
        enter_noise = -_ENTER_NOISE_COST / frame_weight
        skip = -_SKIP_COST
        frames, words = [_WAIT, _NOISE], [0, 0]
        moves = [(free, free, never), (free, enter_noise, enter_noise)]
        starts = np.flatnonzero(np.diff(word_of, prepend=-1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(word_of)], strict=True):
            word = int(word_of[start])
            after: Stop = stops[word] if stop < len(word_of) else "long"
            for frame in range(start, stop):
                frames.append(frame)
                moves.append((free, free, free if frame == start else never if frame == start + 1 else skip))
            frames.append(_WAIT)
            moves.append((free, -_ENTER_WAIT_COST[after] / frame_weight, never))
            if after == "long":
                frames.append(_NOISE)
                moves.append((free, enter_noise, enter_noise))
            words += [word] * (len(frames) - len(words))
        return _States(np.array(frames), np.array(words), np.array(moves))


@dataclass(frozen=True, eq=False)
class _Warp:
    """Unit features of the recording and the synthetic speech; silence and non-speech of the recording."""

    sound: Float32[np.ndarray, "T D"]
    silence: Float32[np.ndarray, " T"]
    no_speech: Float32[np.ndarray, " T"]
    reference: Float32[np.ndarray, "M D"]

    def align(self, states: _States, band: Band | None) -> Int64[np.ndarray, " T"]:
        """State at each frame of the recording."""
        background = self.background()
        sounding = 1 - self.silence
        wait = sounding * background * _WAIT_OVER_BACKGROUND
        clearer = (_NOISE_OVER_BACKGROUND - _CLEAR_NOISE_OVER_BACKGROUND) * self.no_speech
        noise = sounding * background * (_NOISE_OVER_BACKGROUND - clearer)
        noise += self.silence * _SILENT_NOISE_COST
        unlike = self.silence * _SILENT_WORD_COST + sounding * self.no_speech * _NO_SPEECH_COST
        in_word = unlike + _DISTANCE_SCALE

        def tile(start: int, stop: int, low: int, high: int) -> Float32[np.ndarray, "steps states"]:
            frames = states.frames[low:high]
            closeness = self.sound[start:stop] @ self.reference[np.maximum(frames, 0)].T
            scores: np.ndarray = closeness * np.float32(_DISTANCE_SCALE) - in_word[start:stop, None]
            scores[:, frames == _WAIT] = -wait[start:stop, None]
            scores[:, frames == _NOISE] = -noise[start:stop, None]
            return scores

        return best_path(tile, len(self.sound), states.moves, band).states

    def background(self) -> Float32[np.ndarray, " T"]:
        """Distance of an arbitrary speech frame at each frame: a low quantile over a sample of them."""
        place = int(_BACKGROUND_SHARE * (len(self._sample) - 1))
        parts = [np.partition(part, place, axis=1)[:, place] for _, part in self._sample_distances()]
        return np.concatenate(parts)

    def fits(self, frames: Int64[np.ndarray, " T"]) -> Float32[np.ndarray, " T"]:
        """Share of arbitrary speech frames that fit worse than the paired one, at each frame."""
        shares = np.zeros(len(self.sound), np.float32)
        for part, distances in self._sample_distances():
            paired = self.reference[np.maximum(frames[part], 0)]
            own = _DISTANCE_SCALE * (1 - np.einsum("td,td->t", self.sound[part], paired))
            shares[part] = np.where(frames[part] >= 0, (distances > own[:, None]).mean(axis=1), 0)
        return shares

    @property
    def _sample(self) -> Float32[np.ndarray, "B D"]:
        count = min(_NUM_BACKGROUND, len(self.reference))
        sample: np.ndarray = self.reference[np.linspace(0, len(self.reference) - 1, count).astype(int)]
        return sample

    def _sample_distances(self) -> Iterator[tuple[slice, Float32[np.ndarray, "t B"]]]:
        """Distances to a sample of speech frames, a block of frames at a time."""
        sample = self._sample.T
        for start in range(0, len(self.sound), _BLOCK_FRAMES):
            part = slice(start, start + _BLOCK_FRAMES)
            yield part, _DISTANCE_SCALE * (1 - self.sound[part] @ sample)

    def pooled(self, groups: Int64[np.ndarray, " M"]) -> _Warp:
        """Pool to a fraction of the frames; `groups` gives the pooled frame of each synthetic frame."""
        places = np.arange(0, len(self.sound), _COARSE_FRAMES)
        counts = np.diff(np.append(places, len(self.sound)))
        sound = np.add.reduceat(self.sound, places, axis=0)
        quiet, no_speech = (
            (np.add.reduceat(values, places) / counts).astype(np.float32)
            for values in (self.silence, self.no_speech)
        )
        firsts = np.flatnonzero(np.diff(groups, prepend=-1))
        reference = np.add.reduceat(self.reference, firsts, axis=0)
        return _Warp(_unit(sound), quiet, no_speech, _unit(reference))


def _unlike_speech(recording: AudioFeatures, active: Bool[np.ndarray, " T"]) -> Float32[np.ndarray, " T"]:
    """Non-speech of each frame, 0 to 1, relative to the recording's own speech probabilities."""
    if recording.speech is None:
        return np.zeros(len(recording), np.float32)
    likely = float(np.quantile(recording.speech[active], _LIKELY_SHARE))
    bound = float(np.clip(_OF_LIKELY * likely, *_LIKELY_BOUNDS))
    return np.clip(1 - recording.speech / bound, 0, 1).astype(np.float32)


def _coarse_band(task: _Warp, word_of: np.ndarray, stops: list[Stop], states: _States) -> Band:
    """Band around the path at a quarter of the frames, in states of the full resolution."""
    starts = np.flatnonzero(np.diff(word_of, prepend=-1))
    within = np.arange(len(word_of)) - np.repeat(starts, np.diff(np.append(starts, len(word_of))))
    is_first = (within % _COARSE_FRAMES) == 0
    groups = np.cumsum(is_first) - 1
    coarse = _States.build(word_of[is_first], stops, _COARSE_FRAMES)
    words = coarse.words[task.pooled(groups).align(coarse, None)]
    tiles = range(0, len(words), TILE_STEPS // _COARSE_FRAMES)
    first_words = words[list(tiles)]
    last_words = words[[min(tile + TILE_STEPS // _COARSE_FRAMES, len(words)) - 1 for tile in tiles]]
    lows = np.searchsorted(states.words, first_words) - _BAND_FRAMES
    highs = np.searchsorted(states.words, last_words, side="right") + _BAND_FRAMES
    return Band(np.maximum(lows, 0), int((highs - lows).max()))


def _spans(task: _Warp, frames: np.ndarray, word_of: np.ndarray, num_words: int) -> list[WordSpan]:
    said = np.where(frames >= 0, word_of[np.maximum(frames, 0)], -1)
    fits = task.fits(frames)
    spans: list[WordSpan] = []
    meeting = 0
    places = {int(word): place for place, word in enumerate(word_of)}
    order = np.flatnonzero(said >= 0)
    bounds = np.searchsorted(said[order], np.arange(num_words + 1))
    for word in range(num_words):
        own_frames = order[bounds[word] : bounds[word + 1]]
        if len(own_frames) == 0:
            spans.append(WordSpan(meeting, meeting, 0.0, is_wildcard=word not in places))
            continue
        meeting = int(own_frames[-1]) + 1
        confidence = float(np.clip((fits[own_frames].mean() - 0.5) / 0.45, 0, 1))
        spans.append(WordSpan(int(own_frames[0]), meeting, confidence))
    return spans


def _unit(values: np.ndarray) -> Float32[np.ndarray, "T D"]:
    unit: np.ndarray = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return unit.astype(np.float32)
