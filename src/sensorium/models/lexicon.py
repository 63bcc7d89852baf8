"""A lexicon: how words sound, and which word follows which.

In: texts with their sounds (`data.espeak.sounds`), words with theirs. Out: for a text its sounds, for what a
talker reads; for sounds the words that may stand for them, for `generation.spelled`. A small model that was
taught some ten thousand sentences can learn the forty sounds of a language, but not how its words are spelt;
so it writes and reads sounds, and words are looked up. The odds of a word after another are

    p(b | a) = max(n(a, b) - d, 0) / n(a) + d n_1(a) / n(a) p(b),    p(b) ~ number of words seen before b

(Kneser and Ney, "Improved backing-off for m-gram language modeling", 1995, equations 2 and 3), d = .75,
n_1(a) the number of words seen after a.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product

from pydantic import Field

from sensorium.core.config import Config

START, END = "<s>", "</s>"
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_PAUSE = re.compile(r"[^\w\s'’-]")
_DISCOUNT = 0.75
_RARE = 0.005
"""Share of the readings of a word below which one is taken for a slip of the alignment."""
_MOST = 3
_STEPS = ((1, 1), (2, 1), (_MOST, 1), (1, 2), (1, 3))
"""How many words may be spoken as how many."""
_STEP, _NEAR = 0.5, 0.5


class LexiconConfig(Config):
    """How a model that hears or speaks goes from sounds to words and back.

    Attributes:
        weight: Of the logarithm of a word's odds after the word before it, beside those of its sounds.
        entries: What is known, in JSON; training fills it in.
    """

    weight: float = Field(default=0.6, ge=0)
    entries: str = ""


class Lexicon:
    """Words, their sounds and their order.

    Args:
        readings: By phrase (a word, or a few that are spoken as one) how often it sounded like what.
        pairs: By word how often each word came after it, `START` and `END` among them.
        forms: How words are written where not in small letters.
        asking: Words that sentences with a question mark begin with.

    Example:
        >>> spoken = [("The frog.", "D@ fr0g"), ("Of the frog, a frog.", "VvD@ fr0g | a# fr0g")]
        >>> known = Lexicon.learned(spoken, words=[("of", "Vv"), ("a", "a#")])
        >>> known.sounds("A frog, of the frog?")
        'a#fr0g VvD@fr0g'
        >>> known.sentence(["of", "the", "frog"])
        'Of the frog.'
    """

    def __init__(
        self,
        readings: Mapping[str, Mapping[str, int]] | None = None,
        pairs: Mapping[str, Mapping[str, int]] | None = None,
        forms: Mapping[str, str] | None = None,
        asking: Sequence[str] = (),
    ) -> None:
        self.readings = readings or {}
        self._pairs, self._forms, self._asking = pairs or {}, forms or {}, frozenset(asking)
        self._totals = {word: sum(after.values()) for word, after in self._pairs.items()}
        self._before = Counter(word for after in self._pairs.values() for word in after)
        self._num_pairs = self._before.total() + len(self.readings)
        self._usual = {phrase: _commonest(found) for phrase, found in self.readings.items()}

    @classmethod
    def learned(cls, spoken: Sequence[tuple[str, str]], words: Iterable[tuple[str, str]] = ()) -> Lexicon:
        """Learn from texts with their sounds, and from words by themselves.

        Args:
            spoken: Texts and sounds; texts that come twice are counted once, their sounds each time.
            words: More words and their sounds.
        """
        alone = [(own[0], word, sound) for word, sound in words if len(own := _plain(word)) == 1]
        forms: dict[str, Counter[str]] = defaultdict(Counter)
        pairs: dict[str, Counter[str]] = defaultdict(Counter)
        asking: Counter[str] = Counter()
        for text in dict.fromkeys(text for text, _ in spoken):
            own = _plain(text)
            for before, after in pairwise([START, *own, END]):
                pairs[before][after] += 1
            for form in _WORD.findall(text)[1:]:
                forms[_plain(form)[0]][form] += 1
            asking[own[0] if own else END] += 1 if text.rstrip().endswith("?") else -1
        for word, form, _ in alone:
            forms[word][form] += 1
        return cls(
            _readings(spoken, [(word, unbroken(sound).replace(" ", "")) for word, _, sound in alone]),
            pairs,
            {word: form for word, found in forms.items() if (form := _commonest(found)) != word},
            sorted(word for word, votes in asking.items() if votes > 0),
        )

    @classmethod
    def from_json(cls, text: str) -> Lexicon:
        """Read what `to_json` wrote; nothing is an empty lexicon."""
        return cls(**json.loads(text)) if text else cls()

    def to_json(self) -> str:
        """All that is known."""
        values = {
            "readings": self.readings,
            "pairs": self._pairs,
            "forms": self._forms,
            "asking": sorted(self._asking),
        }
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    def __len__(self) -> int:
        return len(self.readings)

    def sounds(self, text: str) -> str:
        """How a text is pronounced: sounds without gaps, a space for each pause.

        What is unknown is taken apart into the longest known beginnings, in the end into letters; letters of
        other scripts are left out.
        """
        parts = (self._sounds_of(_plain(part)) for part in _PAUSE.split(text))
        return " ".join(filter(None, parts))

    def log_odds(self, before: str, word: str) -> float:
        """Logarithm of the odds of a word after another."""
        odds = (self._before.get(word, 0) or 0.5) / (self._num_pairs or 1)
        total = self._totals.get(before)
        if total:
            after = self._pairs[before]
            odds *= _DISCOUNT * len(after) / total
            odds += max(after.get(word, 0) - _DISCOUNT, 0) / total
        return math.log(odds)

    def sentence(self, words: Sequence[str]) -> str:
        """Words as a sentence: in their usual forms, with a capital letter and a mark at the end."""
        if not words:
            return ""
        text = " ".join(self._forms.get(word, word) for word in words)
        return text[0].upper() + text[1:] + ("?" if words[0] in self._asking else ".")

    def _sounds_of(self, words: Sequence[str]) -> str:
        found, place = "", 0
        while place < len(words):
            for num in range(min(_MOST, len(words) - place), 0, -1):
                known = self._usual.get(" ".join(words[place : place + num]))
                if known is not None:
                    break
            found += known if known is not None else self._spelt(words[place])
            place += num
        return found

    def _spelt(self, word: str) -> str:
        """An unknown word by the longest known words that it is made of."""
        found = ""
        while word:
            size = next((size for size in range(len(word), 0, -1) if word[:size] in self._usual), 0)
            found, word = found + (self._usual[word[:size]] if size else ""), word[size or 1 :]
        return found


def unbroken(sounds: str) -> str:
    """Sounds as they are heard: without gaps between words, a space at each pause.

    Example:
        >>> unbroken("a# fr0g | VvD@ si:")
        'a#fr0g VvD@si:'
    """
    return " ".join(filter(None, ("".join(part.split()) for part in sounds.split("|"))))


def _plain(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def _commonest(found: Mapping[str, int]) -> str:
    return max(found, key=found.__getitem__)


def _readings(
    spoken: Sequence[tuple[str, str]], alone: Sequence[tuple[str, str]]
) -> dict[str, dict[str, int]]:
    """By phrase how often it sounds like what: in sentences, and once as a word alone."""
    texts = [
        (_plain(text), sounds.replace("|", " ").split(), count)
        for (text, sounds), count in Counter(spoken).items()
    ]
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for own, heard, count in texts:
        if len(own) == len(heard):
            for word, sound in zip(own, heard, strict=True):
                found[word][sound] += count
    usual = {**dict(reversed(alone)), **{word: _commonest(sounds) for word, sounds in found.items()}}
    for own, heard, count in texts:
        if len(own) != len(heard):
            for phrase, sound in _aligned(own, heard, usual):
                found[phrase][sound] += count
    kept = {
        phrase: {sound: count for sound, count in sounds.items() if count >= _RARE * sounds.total()}
        for phrase, sounds in found.items()
    }
    for word, sound in alone:
        kept.setdefault(word, {}).setdefault(sound, 1)
    return kept


def _aligned(
    words: Sequence[str], heard: Sequence[str], usual: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Phrases and what each sounds like, where a few words may be spoken as one, or one word as several.

    Of all ways to divide both, that whose sounds are nearest to the usual ones of the words; where they are
    far from them, nothing is learned.
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
    """Letters to change, to add and to leave out."""
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
