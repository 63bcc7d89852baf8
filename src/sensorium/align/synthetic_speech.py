"""Words to speech without a trained model: a recording warped onto synthetic speech of its text.

In: both as `Heard` frames, and which word each synthetic frame belongs to. Out: first and last frame of each
word in the recording, with a confidence. Distances are cosines of normalised cepstra (`align.cepstra`).

The chain of states is the synthetic speech without its pauses, and between words places to wait. A word goes
at any pace down to twice the synthesiser's. Waiting is free in silence and dear in sound; it has to be
entered, at a price where the text has no stop. Where a passage ends there is a second place to wait that
costs less than a wrong word in any sound, least where it is unlike speech (`media.listening`): music,
applause, somebody else. What a frame costs there is what an arbitrary frame of speech would cost, so that the
prices need not know how noisy the recording is.

Long recordings are walked at 12 frames a second first, and at 50 within 20 s of synthetic speech around that
path. After Malfrere & Dutoit 1997 (alignment to synthetic speech), with silence and noise modelled as in a
recogniser. Knows nothing of text, languages or files. Where a text skips or repeats what was said, the words
there are wrong and their confidence is low.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sensorium.align.ctc import WordSpan
from sensorium.align.mfcc import Heard, cepstra, silence
from sensorium.align.viterbi import TILE_STEPS, Band, best_path
from sensorium.core.errors import UsageError

Stop = Literal["none", "short", "long"]
"""What follows a word: nothing, a comma or the like, or the end of a sentence or line."""

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
    """Synthetic speech of a text.

    Attributes:
        heard: Its frames.
        word_of: The word that each frame belongs to, ascending; -1 in a pause, (M,).
        stops: What follows each word.
    """

    heard: Heard
    word_of: Int64[np.ndarray, " M"]
    stops: list[Stop]


def align_speech(recording: Heard, script: Script) -> list[WordSpan]:
    """Find when each word of `script` is said in `recording`.

    The confidence is the share of arbitrary frames of speech that would fit the sound worse than the frames
    of the word do, from 0 where half would (chance) to 1 where nearly all would; a word that the synthesiser
    did not say has no frames, lies where its neighbours meet, and has confidence 0.

    Args:
        recording: Speech of the text, with or without silence and other sounds between its passages.
        script: The text as a synthesiser says it.

    Raises:
        UsageError: If there is no word, the recording is silent, or it is too short for the text.
    """
    active = silence(recording.level_db) < 0.5
    if not active.any() or recording.level_db.max() < -70:
        raise UsageError("the recording is silent or steady noise; no words can lie there")
    spoken = script.word_of >= 0
    if not spoken.any():
        raise UsageError("the text has no word that can be spoken; expected letters or digits")
    reference = cepstra(script.heard.mels, spoken)[spoken]
    no_speech = _unlike_speech(recording, active)
    sound = _unit(cepstra(recording.mels, active))
    task = _Warp(sound, silence(recording.level_db), no_speech, _unit(reference))
    states = _States.build(script.word_of[spoken], script.stops, 1)
    if len(recording) * len(states.frames) <= _EXACT_CELLS:
        band = None
    else:
        band = _coarse_band(task, script.word_of[spoken], script.stops, states)
    frames = states.frames[task.walk(states, band)]
    return _spans(task, frames, script.word_of[spoken], len(script.stops))


@dataclass(frozen=True, eq=False)
class _States:
    """The chain: for each state the synthetic frame that it stands for, or `_WAIT` or `_NOISE`.

    `words` is the word that it belongs to or follows; `moves` as in `best_path`.
    """

    frames: np.ndarray
    words: np.ndarray
    moves: np.ndarray

    @staticmethod
    def build(word_of: Int64[np.ndarray, " M"], stops: list[Stop], frame_weight: int) -> _States:
        """The chain of frames that stand for `frame_weight` frames of the recording each."""
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
    """The recording and the synthetic speech as unit vectors; how silent and how unlike speech it is."""

    sound: Float32[np.ndarray, "T D"]
    silence: Float32[np.ndarray, " T"]
    no_speech: Float32[np.ndarray, " T"]
    reference: Float32[np.ndarray, "M D"]

    def walk(self, states: _States, band: Band | None) -> Int64[np.ndarray, " T"]:
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

        found: np.ndarray = best_path(tile, len(self.sound), states.moves, band).states
        return found

    def background(self) -> Float32[np.ndarray, " T"]:
        """What an arbitrary frame of speech would cost at each frame: a low quantile over some of them."""
        place = int(_BACKGROUND_SHARE * (len(self._crowd) - 1))
        parts = [np.partition(part, place, axis=1)[:, place] for _, part in self._to_crowd()]
        background: np.ndarray = np.concatenate(parts)
        return background

    def fits(self, frames: Int64[np.ndarray, " T"]) -> Float32[np.ndarray, " T"]:
        """Share of arbitrary frames that fit worse at each frame than the one it is paired with, if any."""
        shares = np.zeros(len(self.sound), np.float32)
        for part, distances in self._to_crowd():
            paired = self.reference[np.maximum(frames[part], 0)]
            own = _DISTANCE_SCALE * (1 - np.einsum("td,td->t", self.sound[part], paired))
            shares[part] = np.where(frames[part] >= 0, (distances > own[:, None]).mean(axis=1), 0)
        return shares

    @property
    def _crowd(self) -> Float32[np.ndarray, "B D"]:
        count = min(_NUM_BACKGROUND, len(self.reference))
        crowd: np.ndarray = self.reference[np.linspace(0, len(self.reference) - 1, count).astype(int)]
        return crowd

    def _to_crowd(self) -> Iterator[tuple[slice, Float32[np.ndarray, "t B"]]]:
        """Distances to some frames of speech, a few thousand frames at a time."""
        crowd = self._crowd.T
        for start in range(0, len(self.sound), _BLOCK_FRAMES):
            part = slice(start, start + _BLOCK_FRAMES)
            yield part, _DISTANCE_SCALE * (1 - self.sound[part] @ crowd)

    def pooled(self, groups: Int64[np.ndarray, " M"]) -> _Warp:
        """The same at a fraction of the frames; `groups` numbers the synthetic frames that become one."""
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


def _unlike_speech(recording: Heard, active: Bool[np.ndarray, " T"]) -> Float32[np.ndarray, " T"]:
    """How unlike speech each frame is, 0 to 1; in noise everything is, so by what is likely here."""
    if recording.speech is None:
        return np.zeros(len(recording), np.float32)
    likely = float(np.quantile(recording.speech[active], _LIKELY_SHARE))
    bound = float(np.clip(_OF_LIKELY * likely, *_LIKELY_BOUNDS))
    share: np.ndarray = np.clip(1 - recording.speech / bound, 0, 1).astype(np.float32)
    return share


def _coarse_band(task: _Warp, word_of: np.ndarray, stops: list[Stop], states: _States) -> Band:
    """Where the path at a quarter of the frames leads, in states of the full chain, some seconds wider."""
    starts = np.flatnonzero(np.diff(word_of, prepend=-1))
    within = np.arange(len(word_of)) - np.repeat(starts, np.diff(np.append(starts, len(word_of))))
    is_first = (within % _COARSE_FRAMES) == 0
    groups = np.cumsum(is_first) - 1
    coarse = _States.build(word_of[is_first], stops, _COARSE_FRAMES)
    words = coarse.words[task.pooled(groups).walk(coarse, None)]
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
