"""A phrase table: translates a text by looking up its phrases.

It replaces the longest known phrase at each position, then single words by IBM Model 1 (`ibm_model1`), and
copies the rest. It puts spaces between words only where the target language does. It is a baseline of
translation, and makes the drafts of `draft_translations`. A draft can exclude one pair, so that a model can
be trained on the texts of the table.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from composed_world.ibm_model1 import word_translations

_UNSPACED = r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_TOKEN = re.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})\w)+(?:['’]\w+)*|[^\w\s]")
_LONGEST = 8
_LEAST_ODDS = 0.15
"""A word is copied if its best translation has a lower probability."""


class PhraseTable:
    """Translates by lookup: the longest known phrase at each position; unknown words are copied.

    Args:
        pairs: Phrases and their translations; of several translations the most frequent one is used, of
            equally frequent ones the first.
        words: Translations of single words that no phrase covers.

    Example:
        >>> known = PhraseTable([("a frog", "une grenouille"), ("red", "rouge"), ("frog", "grenouille")])
        >>> known("A frog, red as fire.")
        'une grenouille, rouge as fire.'
        >>> known("A frog", without="une grenouille")
        'A grenouille'
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], words: Mapping[str, str] | None = None) -> None:
        self._words = dict(words or {})
        self._known: dict[str, Counter[str]] = defaultdict(Counter)
        for text, translation in pairs:
            key = _words(text)
            if 0 < len(key) <= _LONGEST:
                self._known[" ".join(key)][_plain(translation)] += 1

    @classmethod
    def learned(cls, pairs: Sequence[tuple[str, str]]) -> PhraseTable:
        """Build a table from pairs, with word translations from the longer ones."""
        texts, translations = ([_words(pair[side]) for pair in pairs] for side in (0, 1))
        likeliest = {}
        for word, odds in word_translations(texts, translations).items():
            alike = {said: share for said, share in odds.items() if said.isalnum() == word.isalnum()}
            best = max(alike, key=alike.__getitem__, default="")
            if alike.get(best, 0.0) >= _LEAST_ODDS:
                likeliest[word] = best
        return cls(pairs, likeliest)

    @classmethod
    def from_json(cls, text: str) -> PhraseTable:
        """Read the output of `to_json`."""
        values = json.loads(text)
        found = cls((), values["words"])
        found._known.update({key: Counter(counts) for key, counts in values["phrases"].items()})
        return found

    def to_json(self) -> str:
        """Phrases with the counts of their translations, and words."""
        values = {"phrases": self._known, "words": self._words}
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, text: str, *, without: str = "") -> str:
        """Translate `text`.

        Args:
            text: Of any length.
            without: A translation of the whole text, whose count is lowered by one.
        """
        found = list(_TOKEN.finditer(text))
        keys = [match[0].lower() for match in found]
        own = " ".join(_words(text)) if without else ""
        draft, place, end = "", 0, 0
        while place < len(found):
            known, length = self._words.get(keys[place], found[place][0]), 1
            for num in range(min(_LONGEST, len(found) - place), 0, -1):
                phrase = " ".join(keys[place : place + num])
                if said := self._commonest(phrase, _plain(without) if phrase == own else ""):
                    known, length = said, num
                    break
            draft = _joined(draft, text[end : found[place].start()], known)
            place += length
            end = found[place - 1].end()
        return draft + text[end:]

    def _commonest(self, phrase: str, without: str) -> str:
        counts = self._known.get(phrase)
        if counts is None:
            return ""
        left = counts - Counter({without: 1}) if without else counts
        return max(left, key=left.__getitem__, default="")


def _words(text: str) -> list[str]:
    return _TOKEN.findall(text.strip(" .。").lower())


def _joined(before: str, gap: str, after: str) -> str:
    """Join words with or without a space, as the target language has it."""
    if not gap and before and after and before[-1].isalnum() and after[0].isalnum():
        return before + after if _is_unspaced(before[-1]) and _is_unspaced(after[0]) else f"{before} {after}"
    if gap.isspace() and before and after and _is_unspaced(before[-1]) and _is_unspaced(after[0]):
        return before + after
    return before + gap + after


def _is_unspaced(letter: str) -> bool:
    return re.match(_UNSPACED, letter) is not None


def _plain(translation: str) -> str:
    return translation.strip(" .。")
