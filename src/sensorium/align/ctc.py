"""Forced alignment of words to CTC emissions.

Input: log-probabilities of a CTC recogniser (T, V), and words as label ids. Output: first and last frame of
each word, with a confidence. A word without labels (digits, symbols, another script) is a wildcard that
matches any sound at a penalty.

Reference: Graves et al. 2006, section 4.1 (the graph); Pratap et al. 2023, arXiv:2305.13516, section 3.1.5
(the star token; theirs has no penalty and takes frames from its neighbours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from sensorium.align.viterbi import best_path
from sensorium.core.errors import UsageError

WILDCARD_PENALTY = 1.0
"""Penalty of a wildcard relative to the likeliest label, in nats a frame."""

_STAR = -1


@dataclass(frozen=True)
class WordSpan:
    """Frames of a word.

    Attributes:
        start: First frame.
        stop: Frame after the last.
        confidence: 0 to 1, as defined by the aligner.
        is_wildcard: Whether the word has no labels; its time is what its neighbours left.
    """

    start: int
    stop: int
    confidence: float
    is_wildcard: bool = False


@dataclass(frozen=True)
class CtcAlignment:
    """Result of `ctc_align`.

    Attributes:
        words: One span for each word, in order.
        labels: Index of each frame's label in the concatenated labels (wildcards and separators included); -1
            for a blank, (T,).
        score: Log-probability of the best path.
    """

    words: list[WordSpan]
    labels: Int64[np.ndarray, " T"]
    score: float


def ctc_align(
    log_probs: Float[np.ndarray, "T V"],
    words: Sequence[Sequence[int]],
    *,
    blank: int = 0,
    separator: int | None = None,
) -> CtcAlignment:
    """Find the likeliest path through `words` in order.

    The confidence of a word is the geometric mean, over its labels, of the greatest probability that each
    has in its frames; that of a wildcard the mean probability of anything but blank.

    Args:
        log_probs: Normalised log-probabilities, one row a frame.
        words: Label ids of each word; an empty one is a wildcard.
        blank: Id of the blank.
        separator: Id of the label that the recogniser writes between words, if it does (`|` of wav2vec 2.0).

    Raises:
        UsageError: If there are no words, a label is out of range or the blank, log-probabilities are not
            numbers, or there are fewer frames than the words need.

    Example:
        >>> probs = np.full((6, 3), 0.05); probs[[0, 3, 5], 0] = probs[[1, 2], 1] = probs[4, 2] = 0.9
        >>> [(word.start, word.stop) for word in ctc_align(np.log(probs), [[1], [2]]).words]
        [(1, 3), (4, 5)]
    """
    emissions = _checked(log_probs, blank)
    said, word_of = _sequence(words, separator)
    _check_labels(said, emissions.shape[1] - 1, blank)
    states = np.full(2 * len(said) + 1, blank, np.int64)
    states[1::2] = np.where(said == _STAR, emissions.shape[1] - 1, said)
    moves = np.zeros((len(states), 3))
    moves[0::2, 2] = -np.inf
    moves[3::2, 2] = np.where(said[1:] != said[:-1], 0.0, -np.inf)
    needed = len(said) + int((said[1:] == said[:-1]).sum())
    if needed > len(emissions):
        raise UsageError(
            f"{len(said)} labels need {needed} frames, got {len(emissions)}; is the text that of the sound?"
        )

    def tile(start: int, stop: int, low: int, high: int) -> Float32[np.ndarray, "steps states"]:
        return np.take(emissions[start:stop], states[low:high], axis=1)

    path = best_path(tile, len(emissions), moves)
    labels = np.where(path.states % 2 == 1, path.states // 2, -1)
    return CtcAlignment(_spans(labels, said, word_of, len(words), emissions, blank), labels, path.score)


def spell(words: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Ids of each word's characters; no ids where one of them has no label in either case.

    Punctuation is left out. Of `labels`, only those of one character are used, not `<pad>`.

    Example:
        >>> spell(["Go!", "42", "o'er"], ["<pad>", "e", "g", "o", "r"])
        [[2, 3], [], [3, 1, 4]]
    """
    ids = {label: place for place, label in reversed(list(enumerate(labels))) if len(label) == 1}
    spelt: list[list[int]] = []
    for word in words:
        kept = [char for char in word if char.isalnum() or char in ids]
        found = [
            next((ids[c] for c in (char, char.lower(), char.upper()) if c in ids), None) for char in kept
        ]
        spelt.append([] if None in found else [place for place in found if place is not None])
    return spelt


def _checked(log_probs: np.ndarray, blank: int) -> np.ndarray:
    """Emissions in float32 with a last column for the wildcard."""
    if log_probs.ndim != 2 or 0 in log_probs.shape or not 0 <= blank < log_probs.shape[1]:
        raise UsageError(
            f"log_probs {log_probs.shape} with blank={blank}: expected (T, V) and a blank below V"
        )
    emissions = np.empty((len(log_probs), log_probs.shape[1] + 1), np.float32)
    emissions[:, :-1] = log_probs
    np.max(emissions[:, :-1], axis=1, out=emissions[:, -1])
    if np.isnan(emissions).any() or (emissions > 1e-3).any():
        raise UsageError(
            "log_probs above 0 or not numbers; expected log-probabilities (log_softmax of logits)"
        )
    if np.isneginf(emissions[:, -1]).any():
        raise UsageError("log_probs with a frame in which nothing is possible; expected rows that sum to 1")
    emissions[:, -1] -= WILDCARD_PENALTY
    return emissions


def _sequence(words: Sequence[Sequence[int]], separator: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate all labels; also the word of each (-1: a separator)."""
    if len(words) == 0:
        raise UsageError("no words to align; give at least one")
    said: list[int] = []
    word_of: list[int] = []
    for number, word in enumerate(words):
        if number and separator is not None:
            said.append(separator)
            word_of.append(-1)
        said += list(word) or [_STAR]
        word_of += [number] * max(1, len(word))
    return np.array(said, np.int64), np.array(word_of, np.int64)


def _check_labels(said: np.ndarray, num_labels: int, blank: int) -> None:
    wrong = said[((said < 0) & (said != _STAR)) | (said >= num_labels) | (said == blank)]
    if len(wrong):
        raise UsageError(f"label {wrong[0]}: expected 0 to {num_labels - 1} and not the blank ({blank})")


def _spans(
    labels: np.ndarray,
    said: np.ndarray,
    word_of: np.ndarray,
    num_words: int,
    emissions: np.ndarray,
    blank: int,
) -> list[WordSpan]:
    frames = np.flatnonzero(labels >= 0)
    places = labels[frames]
    spoken = emissions[frames, np.where(said[places] == _STAR, blank, said[places])].astype(np.float64)
    spoken = np.where(said[places] == _STAR, np.log1p(-np.minimum(np.exp(spoken), 1 - 1e-6)), spoken)
    firsts = np.searchsorted(places, np.arange(len(said)))
    best = np.maximum.reduceat(spoken, firsts)
    spans = []
    for number in range(num_words):
        own = np.flatnonzero(word_of == number)
        start = int(frames[firsts[own[0]]])
        last = np.searchsorted(places, own[-1], side="right") - 1
        is_wildcard = bool(said[own[0]] == _STAR)
        if is_wildcard:
            confidence = float(np.exp(spoken[firsts[own[0]] : last + 1]).mean())
        else:
            confidence = float(np.exp(best[own].mean()))
        spans.append(WordSpan(start, int(frames[last]) + 1, min(1.0, confidence), is_wildcard))
    return spans
