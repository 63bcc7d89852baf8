"""Writes words with timestamps as JSON, SubRip, WebVTT, Praat TextGrid or Audacity labels.

Input: words with times. Output: a file; the extension selects the format. Subtitle cues end with a sentence,
after a pause, or at a maximum duration or width. Overlaps are cut. Zero-length words and cues take time from
their neighbours, because players and Praat reject them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from sensorium.core.errors import UsageError
from sensorium.core.files import write_atomic

_MOST_CHARACTERS, _LINE_CHARACTERS = 84, 42
_MOST_S, _PAUSE_S, _LEAST_S = 6.0, 0.8, 0.3
_UNSPACED_FROM = "\u2e80"
_LEAST_WORD_MS, _LEAST_CUE_MS = 10, 100
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f]")
_MOST_S_OF_A_FILE = 1e9
"""Thirty years: beyond, milliseconds get lost in sums."""
_ARROW = "--\u2060>"
"""Arrow with an invisible word joiner, so that SubRip readers do not parse it as the one between times."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TimedWord:
    """A word with its start and end time.

    Attributes:
        word: As written.
        start_s: Start time.
        end_s: End time.
        confidence: 0 (chance) to 1.
        line: Number of its line or sentence.
    """

    word: str
    start_s: float
    end_s: float
    confidence: float = 1.0
    line: int = 0


@dataclass(frozen=True)
class Cue:
    """Words that are displayed together."""

    text: str
    start_s: float
    end_s: float


_Span: TypeAlias = tuple[int, int]
"""Start and end in milliseconds."""


def write_words(words: Sequence[TimedWord], path: Path) -> None:
    """Write `words` in the format of the extension of `path`; the file is complete or absent.

    Raises:
        UsageError: If the extension is not .json, .srt, .vtt, .TextGrid or .txt, or a time is not a number.
    """
    write_atomic(path, writer_of(path)(words))


def writer_of(path: Path) -> Callable[[Sequence[TimedWord]], str]:
    """Return the writer for an ending, so that a wrong one is a UsageError before any work."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"{path.name}: expected .json, .srt, .vtt, .TextGrid (Praat) or .txt (Audacity)")
    return writer


def as_json(words: Sequence[TimedWord]) -> list[dict[str, object]]:
    """Words as plain values: word, start_s, end_s, confidence; numbers below 1e9 in size."""
    found = [{key: value for key, value in asdict(_checked(word)).items() if key != "line"} for word in words]
    return [one | {"word": _SURROGATE.sub("\ufffd", str(one["word"]))} for one in found]


def to_json(words: Sequence[TimedWord]) -> str:
    """One object a word."""
    return json.dumps(as_json(words), ensure_ascii=False, indent=1) + "\n"


def to_srt(words: Sequence[TimedWord]) -> str:
    """SubRip subtitles.

    Example:
        >>> print(to_srt([TimedWord("Go!", 0.5, 1.25)]), end="")
        1
        00:00:00,500 --> 00:00:01,250
        Go!
    """
    blocks = [
        f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n"
        f"{_folded(cue.text).replace('-->', _ARROW)}\n"
        for number, cue in enumerate(cues(words), start=1)
    ]
    return "\n".join(blocks)


def to_vtt(words: Sequence[TimedWord]) -> str:
    """WebVTT subtitles."""
    blocks = [
        f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{_folded(_escaped(cue.text))}\n"
        for cue in cues(words)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def to_labels(words: Sequence[TimedWord]) -> str:
    r"""Audacity's label track: start, end and word, separated by tabs.

    Example:
        >>> to_labels([TimedWord("Go!", 0.5, 1.25)])
        '0.500000\t1.250000\tGo!\n'
    """
    return "".join(f"{word.start_s:.6f}\t{word.end_s:.6f}\t{word.word}\n" for word in _cleaned(words))


def to_textgrid(words: Sequence[TimedWord]) -> str:
    """Praat's TextGrid with a tier of lines and one of words; every moment belongs to an interval."""
    cleaned = _cleaned(words)
    spans = _with_lengths([_milliseconds(word.start_s, word.end_s) for word in cleaned], _LEAST_WORD_MS)
    timed = [
        replace(word, start_s=start / 1000, end_s=end / 1000)
        for word, (start, end) in zip(cleaned, spans, strict=True)
    ]
    lines = [Cue(_joined(group), group[0].start_s, group[-1].end_s) for group in lines_of(timed)]
    singles = [Cue(word.word, word.start_s, word.end_s) for word in timed]
    end_s = timed[-1].end_s if timed else _LEAST_WORD_MS / 1000
    tiers = [("lines", _filled(lines, end_s)), ("words", _filled(singles, end_s))]
    text = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s:.3f}"]
    text += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers, start=1):
        text += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        text += [
            "        xmin = 0",
            f"        xmax = {end_s:.3f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for place, cue in enumerate(intervals, start=1):
            quoted = cue.text.replace('"', '""')
            text += [f"        intervals [{place}]:", f"            xmin = {cue.start_s:.3f}"]
            text += [f"            xmax = {cue.end_s:.3f}", f'            text = "{quoted}"']
    return "\n".join(text) + "\n"


WRITERS: Mapping[str, Callable[[Sequence[TimedWord]], str]] = MappingProxyType(
    {".json": to_json, ".srt": to_srt, ".vtt": to_vtt, ".textgrid": to_textgrid, ".txt": to_labels}
)


def cues(words: Sequence[TimedWord]) -> list[Cue]:
    """Group words into subtitle cues that do not overlap.

    Example:
        >>> spoken = [TimedWord("Go", 0.0, 1.0), TimedWord("on", 1.0, 2.0), TimedWord("now", 4.0, 5.0)]
        >>> [cue.text for cue in cues(spoken)]
        ['Go on', 'now']
    """
    groups: list[list[TimedWord]] = []
    for word in _cleaned(words):
        if groups and _belongs(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    spans = [_milliseconds(group[0].start_s, max(word.end_s for word in group)) for group in groups]
    spans = [(start, max(end, start + int(1000 * _LEAST_S))) for start, end in spans]
    cut = [(start, min(end, after)) for (start, end), (after, _) in pairwise(spans)] + spans[-1:]
    shown = zip(groups, _with_lengths(cut, _LEAST_CUE_MS), strict=True)
    return [Cue(_joined(group), start / 1000, end / 1000) for group, (start, end) in shown]


def lines_of(words: Sequence[TimedWord]) -> list[list[TimedWord]]:
    """Words of one line or sentence at a time."""
    lines: list[list[TimedWord]] = []
    for word in words:
        if lines and lines[-1][-1].line == word.line:
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _belongs(group: Sequence[TimedWord], word: TimedWord) -> bool:
    """Whether a word is still shown with those before it."""
    return (
        word.line == group[-1].line
        and word.start_s - group[-1].end_s <= _PAUSE_S
        and word.end_s - group[0].start_s <= _MOST_S
        and len(_joined([*group, word])) <= _MOST_CHARACTERS
    )


def _joined(words: Sequence[TimedWord]) -> str:
    """Words with spaces between them, but not between characters of scripts that have none."""
    text = ""
    for word in words:
        is_close = text and text[-1] >= _UNSPACED_FROM and word.word[:1] >= _UNSPACED_FROM
        text += word.word if not text or is_close else f" {word.word}"
    return text


def _folded(text: str) -> str:
    """Two lines of about equal length where one would be too wide."""
    spaces = [place for place, char in enumerate(text) if char == " "]
    if len(text) <= _LINE_CHARACTERS or not spaces:
        return text
    middle = min(spaces, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:middle]}\n{text[middle + 1 :]}"


def _filled(cues_: Sequence[Cue], end_s: float) -> list[Cue]:
    """Intervals in order, and empty ones in the gaps between them."""
    filled: list[Cue] = []
    at = 0.0
    for cue in cues_:
        if cue.start_s > at:
            filled.append(Cue("", at, cue.start_s))
        filled.append(cue)
        at = cue.end_s
    return [*filled, Cue("", at, end_s)] if end_s > at or not filled else filled


def _with_lengths(spans: Sequence[_Span], least_ms: int) -> list[_Span]:
    """Spans one after another, each of `least_ms` or more; the last ends where the latest did, if it can.

    Example:
        >>> _with_lengths([(0, 380), (380, 380)], 10)
        [(0, 370), (370, 380)]
    """
    ahead: list[_Span] = []
    at = 0
    for start, end in spans:
        start = max(start, at)
        at = max(end, start + least_ms)
        ahead.append((start, at))
    at = max([len(spans) * least_ms, *(end for _, end in spans)])
    found: list[_Span] = []
    for start, end in reversed(ahead):
        end = min(end, at)
        at = min(start, end - least_ms)
        found.append((at, end))
    return found[::-1]


def _milliseconds(start_s: float, end_s: float) -> _Span:
    return round(1000 * start_s), round(1000 * end_s)


def _checked(word: TimedWord) -> TimedWord:
    if not all(abs(value) < _MOST_S_OF_A_FILE for value in (word.start_s, word.end_s, word.confidence)):
        times = f"from {word.start_s} to {word.end_s} s, confidence {word.confidence}"
        raise UsageError(f"the word {word.word[:40]!r} stands {times}; expected numbers below 1e9")
    return word


def _cleaned(words: Sequence[TimedWord]) -> list[TimedWord]:
    """Words of one row of visible characters each, from 0 s on, none ending before it begins."""
    found: list[TimedWord] = []
    for word in words:
        text = " ".join(_UNSEEN.sub("", _SURROGATE.sub("\ufffd", word.word)).split())
        start_s = max(0.0, _checked(word).start_s)
        if text:
            found.append(replace(word, word=text, start_s=start_s, end_s=max(start_s, word.end_s)))
    return found


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
