"""Cuts the decoded tokens of a window into segments at its time tokens.

Input: ids of text and times. Output: the ids and times of each segment, how many frames of the window are
done, and the words of a segment. All times count from the beginning of the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sensorium.media.logmel import FRAMES_A_SECOND
from sensorium.media.timed_text import TimedWord
from sensorium.models.pretrained.whisper_vocabulary import TIME_STEP_S

_FRAMES_A_STEP = round(TIME_STEP_S * FRAMES_A_SECOND)


@dataclass(frozen=True)
class TimedIds:
    """Ids of one segment, and its times from the beginning of the window."""

    ids: tuple[int, ...]
    start_s: float
    end_s: float


def split(ids: Sequence[int], first_time: int, num_frames: int) -> tuple[list[TimedIds], int]:
    """Cut the ids of a window at its pairs of time tokens.

    Args:
        ids: Text and times; from `first_time` on they are times.
        first_time: Id of 0 s.
        num_frames: Frames of the window before its padding.

    Returns:
        The segments, and how many frames are done: all, or up to the last pair if a segment is unfinished.

    Example:
        >>> pieces, done = split([100, 7, 110, 110, 8, 120, 120, 9], 100, 3000)
        >>> [(piece.ids, piece.start_s, piece.end_s) for piece in pieces], done
        ([((7,), 0.0, 0.2), ((8,), 0.2, 0.4)], 40)
    """
    is_time = [one >= first_time for one in ids]
    cuts = [place for place in range(1, len(ids)) if is_time[place - 1] and is_time[place]]
    if not cuts:
        times = [one - first_time for one in ids if one > first_time]
        end_s = times[-1] * TIME_STEP_S if times else num_frames / FRAMES_A_SECOND
        return [TimedIds(_text(ids, is_time), 0.0, end_s)], num_frames
    ends_alone = len(ids) > 1 and is_time[-1] and not is_time[-2]
    edges = [0, *cuts, *([len(ids)] if ends_alone else [])]
    pieces = []
    for begin, end in pairwise(edges):
        times_s = [(ids[place] - first_time) * TIME_STEP_S for place in (begin, end - 1)]
        pieces.append(TimedIds(_text(ids[begin:end], is_time[begin:end]), *times_s))
    done = num_frames if ends_alone else (ids[cuts[-1] - 1] - first_time) * _FRAMES_A_STEP
    return pieces, min(done or num_frames, num_frames)


def _text(ids: Sequence[int], is_time: Sequence[bool]) -> tuple[int, ...]:
    return tuple(one for one, is_one in zip(ids, is_time, strict=True) if not is_one)


def take_words(words: deque[tuple[TimedWord, int]], num_ids: int) -> list[TimedWord]:
    """Take the words that the next `num_ids` ids make up."""
    taken: list[TimedWord] = []
    while words and num_ids > 0:
        word, size = words.popleft()
        taken.append(word)
        num_ids -= size
    return taken
