"""Error rates by the definition: edits over words said; one normaliser for both sides."""

import importlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sensorium.core.errors import MissingExtraError, UsageError
from sensorium.core.numbers import spell_number
from sensorium.evals.speech import evaluate_transcripts, normalise_transcript

sentences = st.lists(st.sampled_from("the red frog sits on a log".split()), min_size=1, max_size=7).map(
    " ".join
)


def distance(one: list[str], other: list[str]) -> int:
    """Levenshtein's, by its recursion."""
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, 1):
        previous, row = row, [i]
        for j, theirs in enumerate(other, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (word != theirs)))
    return row[-1]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=5))
@example([("the the the the the the the", "the")] * 2)
def test_rates_are_edits_over_words_said(pairs: list[tuple[str, str]]) -> None:
    said, heard = [one for one, _ in pairs], [other for _, other in pairs]
    found = evaluate_transcripts(heard, said)
    edits = sum(distance(one.split(), other.split()) for one, other in pairs)
    assert found.wer.mean == pytest.approx(edits / sum(len(one.split()) for one in said))
    assert found.substitutions + found.deletions + found.insertions == edits
    letters = sum(distance(list(one), list(other)) for one, other in pairs)
    assert found.cer.mean == pytest.approx(letters / sum(map(len, said)))
    rounding = 1e-12  # the mean is a quotient of sums, the bounds are of weighted ones
    assert found.wer.low - rounding <= found.wer.mean <= found.wer.high + rounding


def test_case_punctuation_and_digits_do_not_count() -> None:
    found = evaluate_transcripts(["there are twenty one frogs"], ["There are 21 frogs!"])
    assert (found.wer.mean, found.num_words, found.num_utterances) == (0.0, 5, 1)
    assert evaluate_transcripts([""], ["a frog"]).wer.mean == 1.0
    assert evaluate_transcripts(["a b c d"], ["a"]).wer.mean == 3.0


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Don't  SHOUT", "dont shout"),
        ("ﬁfty-two / three", "fifty two three"),
        ("3.5 m", "three point five m"),
        ("in 1984", "in one thousand nine hundred eighty four"),
        ("007", "zero zero seven"),
        ("naïve Grüße — 青蛙", "naïve grüße 青蛙"),
        ("7th", "seven th"),
        ("...", ""),
    ],
)
def test_transcripts_are_normalised(text: str, normal: str) -> None:
    assert normalise_transcript(text) == normal
    assert normalise_transcript(normal) == normal


def test_numbers_are_spelled() -> None:
    assert spell_number("1000000") == "one million"
    assert spell_number("12345678901234567").startswith("one two three")
    assert len({spell_number(str(number)) for number in range(1100)}) == 1100


def test_speakers_are_drawn_together() -> None:
    rng = np.random.default_rng(3)
    bad = np.repeat(rng.random(31) < 0.5, 7)
    heard = ["a bog" if one else "a frog" for one in bad]
    alone = evaluate_transcripts(heard, ["a frog"] * len(bad)).wer
    together = evaluate_transcripts(heard, ["a frog"] * len(bad), groups=np.repeat(np.arange(31), 7)).wer
    assert together.high - together.low > 1.7 * (alone.high - alone.low)


def test_what_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="1 transcripts of 2 utterances"):
        evaluate_transcripts(["a"], ["a", "b"])
    with pytest.raises(UsageError, match=r"utterance 1 \('!'\) has no word"):
        evaluate_transcripts(["a", "b"], ["a", "!"])

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r'needs \'jiwer\': pip install "sensorium\[evals\]"'):
        evaluate_transcripts(["a"], ["a"])
