"""Lexicon-constrained decoding: finds the most likely words for generated phonemes, which may have errors.

Input: phoneme letters, each with its likeliest alternatives, and a lexicon. Output: the words w, with
pronunciations s, that maximise

    sum_t log p(s_t) + weight sum_i (log p(w_i | w_i-1) + log p(s of w_i | w_i))

An inserted or deleted letter costs as much as a very unlikely one. The search is token passing with beam
pruning over a prefix tree of pronunciations. Of the hypotheses at the same node after the same word the
best is kept. Pruning adds the score of the best word that a hypothesis can still become (look-ahead).

Reference: Young, Russell and Thornton, "Token passing: a simple conceptual model for connected speech
recognition systems", 1989; Steinbiss, Tran and Ney, "Improvements in beam search", 1994.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

from composed_world.lexicon import END, START, Lexicon
from sensorium.generation.detokenizer import Decode
from sensorium.generation.request import Choice, Completion

NUM_ALTERNATIVES = 8
PAUSE = " "
_LACKING, _BEYOND, _OTHER = -6.0, -6.0, -8.0
_BEHIND, _MOST = 12.0, 300
_ROOT = 0
_REMEMBERED = 100_000

Odds: TypeAlias = Mapping[str, float]
"""Log-probabilities of the letters at one position."""
_Words: TypeAlias = tuple[Any, ...]
"""Linked list of the words so far: the last word and those before it; empty at the start."""
_Tokens: TypeAlias = dict[tuple[int, str], tuple[float, _Words]]
"""For each tree node and last word: the best score, and its words."""


class LexiconDecoder:
    """Converts phonemes to words.

    Args:
        lexicon: Words and pronunciations.
        weight: Weight of the word scores.

    Example:
        >>> known = Lexicon.learned([("The fog.", "D@ f0g"), ("The frog.", "D@ fr0g")])
        >>> heard = [{letter: 0.0} for letter in "D@fRr0g"]
        >>> LexiconDecoder(known, weight=0.5)(heard)
        ['the', 'frog']
    """

    def __init__(self, lexicon: Lexicon, weight: float) -> None:
        self._weight, self._log_odds = weight, lru_cache(_REMEMBERED)(lexicon.log_odds)
        self._next: list[dict[str, int]] = [{}]
        self._ends: dict[int, list[tuple[list[str], float]]] = {}
        for phrase, readings in lexicon.readings.items():
            whole = sum(readings.values())
            for sounds, count in readings.items():
                if sounds:
                    ends = self._ends.setdefault(self._place(sounds), [])
                    ends.append((phrase.split(), weight * math.log(count / whole)))
        self._hope = self._hopes()

    def __call__(self, heard: Sequence[Odds]) -> list[str]:
        """Return the most likely words; none if no words are near."""
        tokens: _Tokens = {(_ROOT, START): (0.0, ())}
        for odds in heard:
            tokens = self._with_ends(self._passed(tokens, odds))
        done = [
            (score + self._weight * self._log_odds(last, END), words)
            for (place, last), (score, words) in tokens.items()
            if place == _ROOT
        ]
        found: list[str] = []
        rest = max(done or tokens.values(), key=lambda one: one[0])[1]  # an unfinished word is left out
        while rest:
            found.append(rest[0])
            rest = rest[1]
        return found[::-1]

    def _place(self, sounds: str) -> int:
        place = _ROOT
        for letter in sounds:
            if letter not in self._next[place]:
                self._next[place][letter] = len(self._next)
                self._next.append({})
            place = self._next[place][letter]
        return place

    def _hopes(self) -> list[float]:
        """For each tree node the unigram score of the best word below it (look-ahead)."""
        found = [
            max((self._weight * self._log_odds("", words[0]) for words, _ in ends), default=-math.inf)
            for ends in (self._ends.get(place, []) for place in range(len(self._next)))
        ]
        for place in reversed(range(len(found))):  # children have higher numbers
            found[place] = max(
                found[place], *(found[after] for after in self._next[place].values()), -math.inf
            )
        return found

    def _passed(self, tokens: _Tokens, odds: Odds) -> _Tokens:
        """Advance all tokens by one letter."""
        found: _Tokens = {}
        enough = max(self._hope[place] + score for (place, _), (score, _) in tokens.items()) - _BEHIND
        pause = odds.get(PAUSE)
        for (place, last), (score, words) in tokens.items():
            if self._hope[place] + score < enough:
                continue
            skipped = _BEYOND if place != _ROOT or pause is None else max(_BEYOND, pause)
            _keep(found, (place, last), score + skipped, words)
            following = self._next[place]
            for letter, odd in odds.items():
                if letter in following:
                    _keep(found, (following[letter], last), score + odd, words)
            for letter, after in following.items():
                if letter not in odds:
                    _keep(found, (after, last), score + _OTHER, words)
                for second, odd in odds.items():
                    if second in self._next[after]:
                        _keep(found, (self._next[after][second], last), score + _LACKING + odd, words)
        if len(found) <= _MOST:
            return found
        ranked = sorted(found.items(), key=lambda item: self._hope[item[0][0]] + item[1][0])
        return dict(ranked[-_MOST:])

    def _with_ends(self, tokens: _Tokens) -> _Tokens:
        """Add the tokens that end a word at their node."""
        for (place, last), (score, words) in list(tokens.items()):
            for phrase, odds in self._ends.get(place, ()):
                before, whole, ended = last, score + odds, words
                for word in phrase:
                    whole += self._weight * self._log_odds(before, word)
                    before, ended = word, (word, ended)
                _keep(tokens, (_ROOT, before), whole, ended)
        return tokens


def _keep(tokens: _Tokens, key: tuple[int, str], score: float, words: _Words) -> None:
    known = tokens.get(key)
    if known is None or known[0] < score:
        tokens[key] = score, words


@dataclass(frozen=True)
class LexiconTextDecoder:
    """A `TextDecoder`: converts generated phonemes to a text.

    Attributes:
        speller: Converts phonemes to words.
        lexicon: Writes words as a sentence.
        decode: Ids to phoneme letters.
    """

    speller: LexiconDecoder
    lexicon: Lexicon
    decode: Decode

    def __call__(self, completion: Completion) -> Completion:
        """Return the completion with words as its text."""
        words = self.speller([self._odds(one) for one in completion.choices])
        return replace(completion, text=self.lexicon.sentence(words))

    def _odds(self, choice: Choice) -> dict[str, float]:
        found = {self.decode([choice.id]): choice.logprob}
        for other, odds in choice.alternatives:
            found.setdefault(self.decode([other]), odds)
        return found
