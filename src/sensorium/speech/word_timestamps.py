"""Times the words of a window by DTW over Whisper's cross-attention.

Input: an encoded window and the ids of its text. Output: words with times from the window's beginning. The
attention weights of the model's alignment heads are standardised over ids, smoothed over time by a median
filter of 0.14 s, and averaged over heads. The cheapest monotone path through their negative (`dtw`) assigns
each moment to an id.

Reference: `whisper/timing.py` of the reference code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Float64

from sensorium.dtw.steps import StepPattern
from sensorium.dtw.warping import dtw
from sensorium.generation import Memory
from sensorium.media.timed_text import TimedWord
from sensorium.models.pretrained.whisper import Whisper
from sensorium.models.pretrained.whisper_vocabulary import DecodedWord

_MEDIAN_WIDTH = 7
_TOKENS_A_SECOND = 50
_STEPS = StepPattern("moments", (((1, 0, 1.0),), ((1, 1, 1.0),), ((0, 1, 0.0),)), "n")
"""Each moment costs once; an id may share its moment with the next."""
_OPENING = "\"'“¿([{-"
_CLOSING = "\"'.。,，!！?？:：”)]}、"
_SENTENCE_ENDS = ".。!！?？"
_LONGEST_MEDIAN_S, _MOST_MEDIANS = 0.7, 2


def word_times(
    whisper: Whisper, memory: Memory, ids: Sequence[int], language: str, num_frames: int
) -> list[tuple[TimedWord, int]]:
    """Time the words of a window.

    Args:
        whisper: The model that decoded them.
        memory: The encoded window.
        ids: Ids of text, without times.
        language: Its code.
        num_frames: Log-mel frames of the window before its padding.

    Returns:
        Each word with its times from the window's beginning, and how many of `ids` it has.
    """
    vocabulary = whisper.vocabulary
    opening = [mark[0] for mark in vocabulary.opening(language, is_timed=False)]
    if not ids:
        return []
    device = whisper.model.decoder.embedding.weight.device
    whole = torch.tensor([[vocabulary.start, *opening, *ids]], device=device)
    with torch.inference_mode():
        shares, logits = whisper.model.cross_attention(whole, memory, whisper.alignment_heads)
    # The query at an id's position predicts the next id.
    places = slice(len(opening), len(opening) + len(ids) + 1)
    edges = _edges(shares[0, :, places, : max(num_frames // 2, 1)].cpu().numpy())
    odds = logits[0, places][:-1].float().cpu().softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].numpy()
    timed, done = [], 0
    for word in vocabulary.words(ids, language):
        stop = done + len(word.ids)
        timed.append((word, edges[done], edges[stop], float(odds[done:stop].mean())))
        done = stop
    return _merge_punctuation(_shortened(timed))


def _edges(shares: Float32[np.ndarray, "A N S"]) -> Float64[np.ndarray, " N"]:
    """When each id begins, in seconds; the last is the end of the text."""
    deviation = shares.std(axis=1, keepdims=True)
    even = (shares - shares.mean(axis=1, keepdims=True)) / np.maximum(deviation, 1e-9)
    looks = _median(even).mean(axis=0).T.astype(np.float64)
    # All paths have one cell a moment, so that a constant changes nothing; costs must not be negative.
    path = dtw(looks.max() - looks, metric="precomputed", step=_STEPS).path
    assert path is not None
    begins: Float64[np.ndarray, " N"] = path[np.searchsorted(path[:, 1], np.arange(shares.shape[1])), 0]
    return begins / _TOKENS_A_SECOND


def _median(values: Float32[np.ndarray, "A N S"]) -> Float32[np.ndarray, "A N S"]:
    """Median over time, reflected at the ends; a series shorter than the filter is returned as it is."""
    half = _MEDIAN_WIDTH // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, ((0, 0), (0, 0), (half, half)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN_WIDTH, axis=-1)
    median: Float32[np.ndarray, "A N S"] = np.partition(windows, half, axis=-1)[..., half]
    return median


def longest_s(lengths_s: Sequence[float]) -> float:
    """Longest plausible word beside a pause: twice the median word, at most 1.4 s.

    Example:
        >>> longest_s([0.2, 0.3, 1.9])
        0.6
    """
    spoken = [length_s for length_s in lengths_s if length_s > 0]
    return _MOST_MEDIANS * min(_LONGEST_MEDIAN_S, float(np.median(spoken)) if spoken else 0.0)


def without_pause(words: Sequence[TimedWord], most_s: float) -> list[TimedWord]:
    """Shorten the first word of a segment to `most_s`: its attention includes the pause before it."""
    if not words or words[0].end_s - words[0].start_s <= most_s:
        return list(words)
    return [replace(words[0], start_s=words[0].end_s - most_s), *words[1:]]


_Timed = tuple[DecodedWord, float, float, float]


def _shortened(words: Sequence[_Timed]) -> list[_Timed]:
    """Shorten long words at the ends of sentences: their attention includes the pause there."""
    most_s = longest_s([end_s - start_s for _, start_s, end_s, _ in words])
    kept: list[_Timed] = []
    for place, (word, start_s, end_s, odds) in enumerate(words):
        if place and end_s - start_s > most_s:
            if word.text.strip() in _SENTENCE_ENDS:
                end_s = start_s + most_s
            elif words[place - 1][0].text.strip() in _SENTENCE_ENDS:
                start_s = end_s - most_s
        kept.append((word, start_s, end_s, odds))
    return kept


def _merge_punctuation(words: Sequence[_Timed]) -> list[tuple[TimedWord, int]]:
    """Merge punctuation with the word that it belongs to; it takes no time of its own."""
    joined: list[tuple[TimedWord, int]] = []
    before: tuple[str, int] = ("", 0)
    for word, start_s, end_s, odds in words:
        text, count = before[0] + word.text.strip(), before[1] + len(word.ids)
        if word.text.startswith(" ") and word.text.strip() in _OPENING:
            before = (text, count)
        elif joined and not word.text.startswith(" ") and word.text in _CLOSING:
            last, size = joined[-1]
            joined[-1] = (
                TimedWord(last.word + text, last.start_s, last.end_s, last.confidence),
                size + count,
            )
        else:
            joined.append((TimedWord(text, float(start_s), float(end_s), odds), count))
            before = ("", 0)
    return joined
