"""Learns pronunciations by aligning texts with their phonemes, in which some words are joined.

Input: texts and words with their phonemes (`data.collections.espeak.phonemes`). Output: for each phrase (one
word, or a few that are spoken as one) the counts of its pronunciations; pronunciations before a vowel, a
consonant or a pause; and words with a pause before them that no punctuation marks.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, TypeAlias

Context: TypeAlias = Literal["vowel", "consonant", "pause"]
"""The sound after a phrase."""

MOST_WORDS = 3
_PAUSE = "|"
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_MARK = re.compile(r"[^\w\s'’-]")
_VOWELS = frozenset("aeiouAEIOUV@03")
_RARE = 0.005
"""Pronunciations with a smaller share of a phrase's count are alignment errors."""
_SEEN = 3
"""Minimum count of a joined phrase, or of a pronunciation by context."""
_STEPS = ((1, 1), (2, 1), (MOST_WORDS, 1), (1, 2), (1, 3))
"""Allowed alignments: numbers of written and of spoken words."""
_STEP, _NEAR = 0.5, 0.5


@dataclass(frozen=True)
class Readings:
    """Pronunciations.

    Attributes:
        counts: For each phrase the counts of its pronunciations.
        linked: For each context the phrases with another pronunciation there.
        pausing: Words that mostly have a pause before them, also without punctuation.
    """

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    linked: Mapping[Context, Mapping[str, str]] = field(default_factory=dict)
    pausing: Sequence[str] = ()


def words_of(text: str) -> list[str]:
    """Split a text into words, in lower case and without punctuation.

    Example:
        >>> words_of("Ann’s well-known frog, 2!")
        ["ann's", 'well', 'known', 'frog', '2']
    """
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def forms_of(text: str) -> list[str]:
    """Split a text into words, with their spelling."""
    return _WORD.findall(text)


def parts_of(text: str) -> list[list[str]]:
    """Split a text at its punctuation into lists of words."""
    return [words for part in _MARK.split(text) if (words := words_of(part))]


def unbroken(sounds: str) -> str:
    """Remove the gaps between words; a space remains at each pause.

    Example:
        >>> unbroken("a# fr0g | VvD@ si:")
        'a#fr0g VvD@si:'
    """
    return " ".join(filter(None, ("".join(part.split()) for part in sounds.split(_PAUSE))))


def context_of(following: str) -> Context:
    """Class of the following phonemes: vowel, consonant, or pause if there are none."""
    if not following:
        return "pause"
    return "vowel" if following[0] in _VOWELS else "consonant"


def commonest(found: Mapping[str, int]) -> str:
    """The key with the highest count; the first of equal ones."""
    return max(found, key=found.__getitem__)


def learn_readings(spoken: Sequence[tuple[str, str]], alone: Sequence[tuple[str, str]]) -> Readings:
    """Learn pronunciations.

    Args:
        spoken: Texts and their phonemes.
        alone: Single words in lower case and their phonemes without gaps; each counts once.
    """
    texts = [
        (text, sounds.replace(f" {_PAUSE}", _PAUSE).split(), count)
        for (text, sounds), count in Counter(spoken).items()
    ]
    whole = [(text, heard, count) for text, heard, count in texts if len(words_of(text)) == len(heard)]
    found: dict[str, Counter[str]] = defaultdict(Counter)
    where: dict[Context, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    pausing: Counter[str] = Counter()
    for text, heard, count in whole:
        for place, word in enumerate(words_of(text)):
            ends = heard[place].endswith(_PAUSE) or place + 1 == len(heard)
            sound = heard[place].rstrip(_PAUSE)
            found[word][sound] += count
            where[context_of("" if ends else heard[place + 1])][word][sound] += count
        place = 0
        for part in parts_of(text):
            for offset, word in enumerate(part):
                if offset:
                    pausing[word] += count if heard[place + offset - 1].endswith(_PAUSE) else -count
            place += len(part)
    usual = {**dict(reversed(alone)), **{word: commonest(sounds) for word, sounds in found.items()}}
    for text, heard, count in texts:
        if len(words := words_of(text)) != len(heard):
            for phrase, sound in _aligned(words, [one.rstrip(_PAUSE) for one in heard], usual):
                found[phrase][sound] += count
    counts = {
        phrase: {sound: count for sound, count in sounds.items() if count >= _RARE * sounds.total()}
        for phrase, sounds in found.items()
        if " " not in phrase or sounds.total() >= _SEEN
    }
    for word, sound in alone:
        counts.setdefault(word, {}).setdefault(sound, 1)
    linked: dict[Context, dict[str, str]] = {
        context: {
            word: sound
            for word, sounds in own.items()
            if sounds.total() >= _SEEN and (sound := commonest(sounds)) != commonest(counts[word])
        }
        for context, own in where.items()
    }
    return Readings(counts, linked, sorted(word for word, votes in pausing.items() if votes > 0))


def _aligned(
    words: Sequence[str], heard: Sequence[str], usual: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Align words with phonemes: a few words may be spoken as one, or one word as several.

    Returns the alignment with the smallest edit distance to the usual pronunciations; nothing if it is too
    large.
    """
    best: dict[tuple[int, int], tuple[float, tuple[int, int], bool]] = {(0, 0): (0.0, (0, 0), True)}
    for place, time in product(range(len(words) + 1), range(len(heard) + 1)):
        for num_words, num_heard in _STEPS if (place, time) in best else ():
            end = (place + num_words, time + num_heard)
            if end[0] <= len(words) and end[1] <= len(heard):
                own, sound = words[place : end[0]], "".join(heard[time : end[1]])
                expected = "".join(usual.get(word, word) for word in own)
                cost = _distance(expected, sound)
                whole = best[place, time][0] + cost + _STEP * (num_words + num_heard - 2)
                if end not in best or whole < best[end][0]:
                    best[end] = whole, (place, time), cost <= _NEAR * len(expected)
    end = (len(words), len(heard))
    while end in best and end != (0, 0):
        _, start, is_near = best[end]
        if is_near:
            yield " ".join(words[start[0] : end[0]]), "".join(heard[start[1] : end[1]])
        end = start


def _distance(one: str, other: str) -> int:
    """Edit distance."""
    if one == other:
        return 0
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, second in enumerate(other, 1):
            before, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, before + (letter != second)),
            )
    return row[-1]
