"""Splits a text into lines for speech synthesis and alignment, and lines into words with pauses.

A line is a sentence, or a line of the text. Words are separated by spaces; in scripts without spaces each
character is a word. Punctuation belongs to the word before it and determines the pause after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sensorium.align.synthetic_speech import Stop
from sensorium.core.errors import UsageError

_LONG, _SHORT = ".!?…。！？｡؟।", ",;:،、，；：–—"
_CLOSERS = "\"'”’»›)]}」』）"
_MARKS = frozenset(_LONG + _SHORT + _CLOSERS)
_UNSPACED = (
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff][\u3001\u3002\uff0c\uff01\uff1f\uff1b\uff1a"
    + re.escape(_CLOSERS)
    + "]*"
)
_WORD = re.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})\S)+")
_LONGEST_LINE = 60
_ABBREVIATION = re.compile(r"(?:\w\.)+|(?:Dr|Mr|Mrs|Ms|St|Prof|bzw|ca|Nr|Hr|Fr|vgl|usw)\.", re.I)


@dataclass(frozen=True)
class Word:
    """A word as written, with punctuation, its offset in the line, and the pause after it."""

    text: str
    place: int
    stop: Stop


@dataclass(frozen=True)
class Line:
    """A unit of synthesis, at most `_LONGEST_LINE` words."""

    text: str
    words: tuple[Word, ...]


def split_lines(text: str) -> list[Line]:
    """Split a text into lines and words.

    Example:
        >>> [[word.text for word in line.words] for line in split_lines("Stop, Dr. Who! 你好。")]
        [['Stop,', 'Dr.', 'Who!'], ['你', '好。']]
        >>> [word.stop for word in split_lines("Stop, thief!")[0].words]
        ['short', 'long']
    """
    lines: list[Line] = []
    for row in text.splitlines():
        found = _with_punctuation(row)
        begin = 0
        for place, word in enumerate(found):
            is_last = place == len(found) - 1
            if is_last or word.stop == "long" or place - begin + 1 >= _LONGEST_LINE:
                lines.append(_line(row, found[begin : place + 1], is_end=is_last))
                begin = place + 1
    return lines


def passages(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Split a text into sentences, and sentences that do not fit between words.

    Raises:
        UsageError: If a single word does not fit.

    Example:
        >>> list(passages("Stop, thief! He ran away.", lambda part: len(part) < 8))
        ['Stop,', 'thief!', 'He ran', 'away.']
    """
    for line in split_lines(text):
        begin, end = 0, 0
        for word in line.words:
            stop = word.place + len(word.text)
            if end > begin and not fits(line.text[begin:stop]):
                yield line.text[begin:end]
                begin = word.place
            if not fits(line.text[begin:stop]):
                raise UsageError(f"'{word.text[:40]}' is longer than the model reads; write it shorter")
            end = stop
        yield line.text[begin:end]


def as_sentence(text: str) -> str:
    """Capitalize a text and add a full stop.

    Example:
        >>> as_sentence("two"), as_sentence("Is it red?")
        ('Two.', 'Is it red?')
    """
    return text[:1].upper() + text[1:] + ("" if text[-1:] in ("", ".", "!", "?") else ".")


def stop_of(word: str) -> Stop:
    """Pause after a word by its punctuation.

    Example:
        >>> [stop_of(word) for word in ("end.”", "first,", "e.g.", "word")]
        ['long', 'short', 'none', 'none']
    """
    bare = word.rstrip(_CLOSERS)
    if bare and bare[-1] in _LONG and not _ABBREVIATION.fullmatch(bare):
        return "long"
    return "short" if bare and bare[-1] in _SHORT else "none"


def _with_punctuation(row: str) -> list[Word]:
    """Words of a row; a separate mark (French puts a space before it) joins the word before."""
    spans: list[tuple[int, int]] = []
    for match in _WORD.finditer(row):
        if spans and all(char in _MARKS for char in match.group()):
            spans[-1] = (spans[-1][0], match.end())
        else:
            spans.append(match.span())
    return [Word(row[start:stop], start, stop_of(row[start:stop])) for start, stop in spans]


def _line(row: str, found: list[Word], is_end: bool) -> Line:
    begin = found[0].place
    words = [Word(word.text, word.place - begin, word.stop) for word in found]
    if is_end:
        words[-1] = Word(words[-1].text, words[-1].place, "long")
    return Line(row[begin : found[-1].place + len(found[-1].text)], tuple(words))
