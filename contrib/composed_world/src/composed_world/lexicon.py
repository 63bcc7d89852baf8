"""A lexicon: how words sound, and which word follows which.

In: texts with their sounds (`espeak.phonemes`), words with theirs. Out: for a text its sounds, for what a
talker reads; for sounds the words that may stand for them, for `lexicon_decoding`. A small model that was
taught some ten thousand sentences can learn the forty sounds of a language, but not how its words are spelt;
so it writes and reads sounds, and words are looked up. The odds of a word after another are

    p(b | a) = max(n(a, b) - d, 0) / n(a) + d n_1(a) / n(a) p(b),    p(b) ~ number of words seen before b

(Kneser and Ney, "Improved backing-off for m-gram language modeling", 1995, equations 2 and 3), d = .75,
n_1(a) the number of words seen after a.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise

from pydantic import Field

from composed_world import PACKAGE
from composed_world.pronunciation import (
    MOST_WORDS,
    Readings,
    commonest,
    context_of,
    forms_of,
    learn_readings,
    parts_of,
    unbroken,
    words_of,
)
from sensorium.core.config import Config
from sensorium.core.numbers import spell_numbers

START, END = "<s>", "</s>"
_DISCOUNT = 0.75


class LexiconConfig(Config):
    """How a model that transcribes or speaks goes from phonemes to words and back.

    Attributes:
        package: That brings the extension.
        weight: Of the logarithm of a word's odds after the word before it, beside those of its sounds.
        entries: What is known, in JSON; training fills it in.
    """

    package: str = PACKAGE
    weight: float = Field(default=0.6, ge=0)
    entries: str = ""


class Lexicon:
    """Words, their sounds and their order.

    Args:
        readings: How words sound.
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
        readings: Readings | None = None,
        pairs: Mapping[str, Mapping[str, int]] | None = None,
        forms: Mapping[str, str] | None = None,
        asking: Sequence[str] = (),
    ) -> None:
        self._heard = readings or Readings()
        self.readings = self._heard.counts
        """By phrase how often it sounded like what."""
        self._pausing = frozenset(self._heard.pausing)
        self._pairs, self._forms, self._asking = pairs or {}, forms or {}, frozenset(asking)
        self._totals = {word: sum(after.values()) for word, after in self._pairs.items()}
        self._before = Counter(word for after in self._pairs.values() for word in after)
        self._num_pairs = self._before.total() + len(self.readings)
        self._usual = {phrase: commonest(found) for phrase, found in self.readings.items()}

    @classmethod
    def learned(
        cls,
        spoken: Sequence[tuple[str, str]],
        words: Iterable[tuple[str, str]] = (),
        *,
        is_ordered: bool = True,
    ) -> Lexicon:
        """Learn from texts with their sounds, and from words by themselves.

        Args:
            spoken: Texts and sounds; texts that come twice are counted once, their sounds each time.
            words: More words and their sounds.
            is_ordered: Learn also what follows what, and how it is written; what only speaks need not know.
        """
        alone = [(own[0], word, sound) for word, sound in words if len(own := words_of(word)) == 1]
        readings = learn_readings(
            spoken, [(word, unbroken(sound).replace(" ", "")) for word, _, sound in alone]
        )
        if not is_ordered:
            return cls(readings)
        forms: dict[str, Counter[str]] = defaultdict(Counter)
        pairs: dict[str, Counter[str]] = defaultdict(Counter)
        asking: Counter[str] = Counter()
        for text in dict.fromkeys(text for text, _ in spoken):
            own = words_of(text)
            for before, after in pairwise([START, *own, END]):
                pairs[before][after] += 1
            for word, form in list(zip(own, forms_of(text), strict=True))[1:]:
                forms[word][form] += 1
            asking[own[0] if own else END] += 1 if text.rstrip().endswith("?") else -1
        for word, form, _ in alone:
            forms[word][form] += 1
        return cls(
            readings,
            pairs,
            {word: form for word, found in forms.items() if (form := commonest(found)) != word},
            sorted(word for word, votes in asking.items() if votes > 0),
        )

    @classmethod
    def from_json(cls, text: str) -> Lexicon:
        """Read what `to_json` wrote; nothing is an empty lexicon."""
        if not text:
            return cls()
        values = json.loads(text)
        return cls(Readings(**values.pop("readings")), **values)

    def to_json(self) -> str:
        """All that is known."""
        values = {
            "readings": asdict(self._heard),
            "pairs": self._pairs,
            "forms": self._forms,
            "asking": sorted(self._asking),
        }
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    def sounds(self, text: str) -> str:
        """How a text is pronounced: sounds without gaps, a space for each pause.

        What is unknown is taken apart into the longest known beginnings, in the end into letters; letters of
        other scripts are left out. Numbers are read as words.
        """
        parts = (
            self._sounds_of(breath)
            for part in parts_of(spell_numbers(text))
            for breath in self._breaths(part)
        )
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

    def _breaths(self, words: Sequence[str]) -> list[list[str]]:
        """Words between marks, divided where a speaker pauses all the same."""
        found: list[list[str]] = [[]]
        for word in words:
            if word in self._pausing and found[-1]:
                found.append([])
            found[-1].append(word)
        return found

    def _sounds_of(self, words: Sequence[str]) -> str:
        """Each phrase as it sounds before what follows, from the last to the first."""
        found = ""
        for phrase in reversed(self._phrases(words)):
            known = self._heard.linked.get(context_of(found), {}).get(phrase, self._usual.get(phrase))
            found = (self._spelt(phrase) if known is None else known) + found
        return found

    def _phrases(self, words: Sequence[str]) -> list[str]:
        """The longest known phrase at each place; an unknown word is one."""
        found, place = list[str](), 0
        while place < len(words):
            sizes = range(min(MOST_WORDS, len(words) - place), 1, -1)
            several = (size for size in sizes if " ".join(words[place : place + size]) in self._usual)
            size = next(several, 1)
            found.append(" ".join(words[place : place + size]))
            place += size
        return found

    def _spelt(self, word: str) -> str:
        """An unknown word by the longest known words that it is made of; letters go without their accents."""
        found = ""
        word = "".join(one for one in unicodedata.normalize("NFKD", word) if not unicodedata.combining(one))
        while word:
            size = next((size for size in range(len(word), 0, -1) if word[:size] in self._usual), 0)
            found, word = found + (self._usual[word[:size]] if size else ""), word[size or 1 :]
        return found
