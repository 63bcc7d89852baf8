"""IBM Model 1: word translation probabilities, learned from pairs of texts.

Input: pairs of texts as lists of words. Output: t(f | e) for each pair of words that occur in a pair of
texts. Each word of a translation comes from one word of the text at any position, or from none. The
likelihood has one maximum, which expectation maximisation reaches from any start. Word order is ignored.

Reference: Brown et al. 1993, "The Mathematics of Statistical Machine Translation", section 4.1.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import UsageError

W = TypeVar("W", bound=Hashable)


def word_translations(
    texts: Sequence[Sequence[W]], translations: Sequence[Sequence[W]], *, num_rounds: int = 5
) -> dict[W, dict[W, float]]:
    """Estimate t(f | e), the probability that word e is translated by word f.

        a(e | f, pair) = t(f | e) / sum_e' t(f | e'),
        t(f | e) = sum_pairs a(e | f, pair) / sum_f' sum_pairs a(e | f', pair)

    with e' over the words of the pair's text and one empty word, for words of the translation without a
    source.

    Args:
        texts: Words of each text.
        translations: Words of each translation.
        num_rounds: Number of EM iterations.

    Returns:
        For each word of the texts: the words of its translations with their probabilities.

    Raises:
        UsageError: If the numbers of texts and translations differ.

    Example:
        >>> french, english = [["la", "maison"], ["la", "fleur"]], [["the", "house"], ["the", "flower"]]
        >>> learned = word_translations(french, english)
        >>> max(learned["fleur"], key=learned["fleur"].get)
        'flower'
    """
    if len(texts) != len(translations):
        raise UsageError(f"{len(texts)} texts for {len(translations)} translations; expected one each")
    known, told = _numbered(texts), _numbered(translations)
    meetings = [_meetings(one, other, known, told) for one, other in zip(texts, translations, strict=True)]
    if not meetings:
        return {}
    sources, targets = (np.concatenate([one[part] for one in meetings]) for part in (0, 1))
    starts = np.cumsum([0, *(len(words) for words in translations)])
    places = np.concatenate([start + one[2] for start, one in zip(starts, meetings, strict=False)])
    pairs, which = np.unique(sources * len(told) + targets, return_inverse=True)
    source_of = pairs // max(1, len(told))
    odds = np.ones(len(pairs))
    for _ in range(num_rounds):
        share = odds[which] / np.bincount(places, odds[which])[places]
        counts = np.bincount(which, share, len(pairs))
        odds = counts / np.bincount(source_of, counts)[source_of]
    names, others = list(known), list(told)
    found: dict[W, dict[W, float]] = {}
    for pair, odd in zip(pairs.tolist(), odds.tolist(), strict=True):
        source, target = divmod(pair, len(told))
        if source < len(names):  # else the empty word
            found.setdefault(names[source], {})[others[target]] = odd
    return found


def _numbered(texts: Sequence[Sequence[W]]) -> dict[W, int]:
    numbers: dict[W, int] = {}
    for words in texts:
        for word in words:
            numbers.setdefault(word, len(numbers))
    return numbers


def _meetings(
    text: Sequence[W], translation: Sequence[W], known: dict[W, int], told: dict[W, int]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Pair each word of a text, and the empty word, with each word of its translation, and its index."""
    one = np.array([*(known[word] for word in text), len(known)], np.int64)
    other = np.array([told[word] for word in translation], np.int64)
    places = np.arange(len(other), dtype=np.int64)
    return np.repeat(one, len(other)), np.tile(other, len(one)), np.tile(places, len(one))
