"""Word translations by IBM Model 1: equal to expectation maximisation written out, likelier each round."""

from collections import defaultdict
from itertools import pairwise
from math import log

import numpy as np
import pytest

from composed_world.ibm_model1 import word_translations
from sensorium.core.errors import UsageError

Texts = list[list[str]]


def drawn(seed: int, num: int = 40, empty: bool = True) -> tuple[Texts, Texts]:
    """Texts of a toy language, and translations of another order with words that come from nowhere."""
    rng = np.random.default_rng(seed)
    texts = [[f"e{n}" for n in rng.integers(0, 9, rng.integers(not empty, 6))] for _ in range(num)]
    translations = []
    for text in texts:
        words = [word.replace("e", "f") for word in rng.permutation(text).tolist() if rng.random() < 0.9]
        translations.append(words + ["of"] * int(rng.integers(0, 2)))
    return texts, translations


def by_hand(texts: Texts, translations: Texts, num_rounds: int) -> dict[tuple[str, str], float]:
    odds: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for _ in range(num_rounds):
        counts: dict[tuple[str, str], float] = defaultdict(float)
        totals: dict[str, float] = defaultdict(float)
        for text, translation in zip(texts, translations, strict=True):
            for told in translation:
                whole = sum(odds[one, told] for one in [*text, ""])
                for one in [*text, ""]:
                    counts[one, told] += odds[one, told] / whole
                    totals[one] += odds[one, told] / whole
        odds = defaultdict(float, {pair: count / totals[pair[0]] for pair, count in counts.items()})
    return odds


def likelihood(texts: Texts, translations: Texts, num_rounds: int) -> float:
    odds = by_hand(texts, translations, num_rounds)
    return sum(
        log(sum(odds[one, told] for one in [*text, ""]) / (len(text) + 1))
        for text, translation in zip(texts, translations, strict=True)
        for told in translation
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_rounds", [1, 2, 7])
def test_it_is_expectation_maximisation(seed: int, num_rounds: int) -> None:
    texts, translations = drawn(seed)
    expected = by_hand(texts, translations, num_rounds)
    found = word_translations(texts, translations, num_rounds=num_rounds)
    pairs = {(one, told): odds for one, others in found.items() for told, odds in others.items()}
    assert pairs.keys() == {pair for pair in expected if pair[0]}
    assert all(odds == pytest.approx(expected[pair], rel=1e-9) for pair, odds in pairs.items())
    for others in found.values():
        assert sum(others.values()) == pytest.approx(1)


def test_each_round_makes_the_texts_likelier() -> None:
    texts, translations = drawn(0)
    chances = [likelihood(texts, translations, num) for num in range(1, 8)]
    assert all(later >= sooner for sooner, later in pairwise(chances))


def test_words_are_found_whatever_their_order() -> None:
    found = word_translations(*drawn(1, 400))
    assert all(max(odds, key=odds.__getitem__) == word.replace("e", "f") for word, odds in found.items())


def test_nothing_gives_nothing_and_what_does_not_fit_is_refused() -> None:
    assert word_translations([], []) == {}
    assert word_translations([["a"], []], [[], []]) == {}
    with pytest.raises(UsageError, match="2 texts for 1 translations"):
        word_translations([["a"], ["b"]], [["c"]])
