"""Whisper's rules for times: what comes after what, and what the odds of a transcript are."""

import math
from types import SimpleNamespace

import pytest
import torch

from sensorium.speech.timestamp_rules import TimestampRules

END, NO_SPEECH, NO_TIMES, FIRST, V = 17, 21, 22, 23, 47
IDS = SimpleNamespace(
    vocab_size=V, end=END, no_speech=NO_SPEECH, no_times=NO_TIMES, first_time=FIRST, suppressed=(3, 19),
    first_suppressed=(5,),
)  # fmt: skip


def flat() -> torch.Tensor:
    """Text is likelier than all times together."""
    scores = torch.zeros(V)
    scores[:END] = 9.0
    return scores


def allowed(written: list[int], scores: torch.Tensor | None = None, **options: object) -> set[int]:
    found = TimestampRules(IDS, **options)(flat() if scores is None else scores, written)
    return set(torch.isfinite(found).nonzero().flatten().tolist())


TEXT = set(range(END)) - {3}


def test_it_opens_with_an_early_time() -> None:
    assert allowed([], most_first=4) == set(range(FIRST, FIRST + 5))


def test_after_the_first_time_comes_text_and_after_text_a_later_time_may() -> None:
    assert allowed([FIRST + 2]) == {*TEXT, END, 18, 20, NO_SPEECH}
    assert allowed([FIRST + 2, 1]) == {*TEXT, END, 18, 20, NO_SPEECH, *range(FIRST + 3, V)}


def test_times_come_in_pairs_but_for_the_last() -> None:
    opening = [FIRST, 1, FIRST + 5]
    likely_end = flat()
    likely_end[END] = 9.0
    assert allowed(opening, likely_end) == {END, 18, 20, NO_SPEECH, *range(FIRST + 5, V)}
    assert allowed(opening) == set(range(FIRST + 5, V))
    assert not allowed([*opening, FIRST + 5]) & set(range(FIRST, V))


def test_times_that_are_likelier_together_than_any_text_come() -> None:
    scores = torch.zeros(V)
    scores[1] = 3.0
    assert math.log(V - FIRST - 1) > 3.0 > 0.0
    assert allowed([FIRST, 2], scores) == set(range(FIRST + 1, V))
    scores[1] = 3.3
    assert 1 in allowed([FIRST, 2], scores)


def test_without_times_none_come() -> None:
    opening = [(20,), (NO_TIMES,)]
    assert allowed([], opening=opening) == {20}
    assert allowed([20], opening=opening) == {NO_TIMES}
    first = allowed([20, NO_TIMES], opening=opening)
    assert 5 not in first
    assert first >= TEXT - {5}


def test_what_never_comes_never_comes() -> None:
    for written in ([], [FIRST], [FIRST, 1], [FIRST, 1, FIRST + 1]):
        assert not allowed(written) & {3, 19, NO_TIMES}


def test_odds_are_those_among_what_was_allowed() -> None:
    rule = TimestampRules(IDS, most_first=4)
    scores = flat()
    text = [FIRST + 1, 4, FIRST + 9]
    expected = [-math.log(5)]
    for count, following in enumerate([*text, END]):
        seen = rule(scores, text[:count])
        if count:
            expected.append(float(seen.log_softmax(0)[following]))
    assert rule.finish(text, is_ended=True) == pytest.approx(sum(expected) / 4, rel=1e-5)
    assert rule.no_speech == pytest.approx(float(scores.softmax(0)[NO_SPEECH]), rel=1e-5)
