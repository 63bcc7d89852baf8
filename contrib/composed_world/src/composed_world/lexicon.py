"""A pronunciation lexicon with a bigram language model: grapheme-to-phoneme conversion, and word scores.

It is learned from texts and words with their phonemes (`data.collections.espeak.phonemes`). It converts a
text to phonemes (G2P), and holds the words that `lexicon_decoding` searches for given phonemes. A small
model trained on ten thousand sentences learns the 40 phonemes of English, but not the spelling of its
words. So the model works on phonemes. The probability of word b after word a is (Kneser-Ney)

    p(b | a) = max(n(a, b) - d, 0) / n(a) + d n_1(a) / n(a) p(b),    p(b) ~ number of words seen before b

with d = .75 and n_1(a) the number of different words seen after a.

Reference: Kneser and Ney, "Improved backing-off for m-gram language modeling", 1995, equations 2 and 3.
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
    """Options of the lexicon extension.

    Attributes:
        package: Distribution that provides the extension.
        weight: Weight of the word scores, relative to the phoneme scores.
        entries: The lexicon in JSON; set by training.
    """

    package: str = PACKAGE
    weight: float = Field(default=0.6, ge=0)
    entries: str = ""


class Lexicon:
    """Words with their pronunciations and bigram counts.

    Args:
        readings: Pronunciations.
        pairs: Bigram counts: for each word the words after it, with `START` and `END`.
        forms: Spelling of words that are not in lower case.
        asking: First words of sentences with a question mark.

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
        """Counts of the pronunciations of each phrase."""
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
        """Build a lexicon from texts and words with their phonemes.

        Args:
            spoken: Texts and phonemes. A repeated text counts once in the bigrams, and each time in the
                pronunciations.
            words: More words and their phonemes.
            is_ordered: Whether to learn bigrams and spelling; text to speech needs neither.
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
        """Read the output of `to_json`; an empty string gives an empty lexicon."""
        if not text:
            return cls()
        values = json.loads(text)
        return cls(Readings(**values.pop("readings")), **values)

    def to_json(self) -> str:
        """The lexicon as JSON."""
        values = {
            "readings": asdict(self._heard),
            "pairs": self._pairs,
            "forms": self._forms,
            "asking": sorted(self._asking),
        }
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    def sounds(self, text: str) -> str:
        """Convert a text to phonemes, with a space for each pause.

        An unknown word is split into its longest known prefixes, or into letters; letters of other scripts
        are left out. Numbers are read as words.
        """
        parts = (
            self._sounds_of(breath)
            for part in parts_of(spell_numbers(text))
            for breath in self._breaths(part)
        )
        return " ".join(filter(None, parts))

    def log_odds(self, before: str, word: str) -> float:
        """Return log p(word | before)."""
        odds = (self._before.get(word, 0) or 0.5) / (self._num_pairs or 1)
        total = self._totals.get(before)
        if total:
            after = self._pairs[before]
            odds *= _DISCOUNT * len(after) / total
            odds += max(after.get(word, 0) - _DISCOUNT, 0) / total
        return math.log(odds)

    def sentence(self, words: Sequence[str]) -> str:
        """Write words as a sentence: usual spelling, a capital letter, a full stop or question mark."""
        if not words:
            return ""
        text = " ".join(self._forms.get(word, word) for word in words)
        return text[0].upper() + text[1:] + ("?" if words[0] in self._asking else ".")

    def _breaths(self, words: Sequence[str]) -> list[list[str]]:
        """Split words at usual pauses that no punctuation marks."""
        found: list[list[str]] = [[]]
        for word in words:
            if word in self._pausing and found[-1]:
                found.append([])
            found[-1].append(word)
        return found

    def _sounds_of(self, words: Sequence[str]) -> str:
        """Pronounce each phrase by the sound after it, from last to first."""
        found = ""
        for phrase in reversed(self._phrases(words)):
            known = self._heard.linked.get(context_of(found), {}).get(phrase, self._usual.get(phrase))
            found = (self._spelt(phrase) if known is None else known) + found
        return found

    def _phrases(self, words: Sequence[str]) -> list[str]:
        """Split words into the longest known phrases; an unknown word is a phrase."""
        found, place = list[str](), 0
        while place < len(words):
            sizes = range(min(MOST_WORDS, len(words) - place), 1, -1)
            several = (size for size in sizes if " ".join(words[place : place + size]) in self._usual)
            size = next(several, 1)
            found.append(" ".join(words[place : place + size]))
            place += size
        return found

    def _spelt(self, word: str) -> str:
        """Pronounce an unknown word by its longest known parts; accents of letters are removed."""
        found = ""
        word = "".join(one for one in unicodedata.normalize("NFKD", word) if not unicodedata.combining(one))
        while word:
            size = next((size for size in range(len(word), 0, -1) if word[:size] in self._usual), 0)
            found, word = found + (self._usual[word[:size]] if size else ""), word[size or 1 :]
        return found
