"""Answers are compared by the published rules; readers without eyes find what words give away."""

import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.evals.question_only import Questions, bag_of_words, majority_answers
from sensorium.evals.vqa import by_type, exact_matches, normalise_answer, soft_matches


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A red Frog.", "red frog"),
        ("none", "0"),
        ("ten  o'clock", "10 oclock"),
        ("don't", "dont"),
        ("black-and-white", "black and white"),
        ("black - and-white", "black andwhite"),  # one sign touches a space: all are deleted
        ("1,000 frogs, or so", "1000 frogs or so"),
        ("2.5", "2.5"),
        ("yes!", "yes"),
        ("", ""),
        ("the", ""),
        ("Grün", "grün"),
    ],
)
def test_answers_are_normalised_as_published(text: str, normal: str) -> None:
    assert normalise_answer(text) == normal
    assert normalise_answer(normal) == normal


def test_agreement_leaves_each_annotator_out_once() -> None:
    # n annotators of ten agree: n of the ten remainders have n - 1 of them, the others n
    for agreeing in range(11):
        answers = ["frog"] * agreeing + [f"other {place}" for place in range(10 - agreeing)]
        expected = (
            (agreeing * min((agreeing - 1) / 3, 1) + (10 - agreeing) * min(agreeing / 3, 1)) / 10
            if agreeing
            else 0.0
        )
        assert soft_matches(["A frog!"], [answers])[0] == pytest.approx(expected)
    assert soft_matches(["no", "2"], [["no"], ["one"]]).tolist() == [1.0, 0.0]


def test_means_are_overall_and_by_type_and_groups_widen_them() -> None:
    right = exact_matches(["1", "a cat", "red", "blue", "x"], ["one", "dog", "RED", "red", "X."])
    assert right.tolist() == [True, False, True, False, True]
    found = by_type(right, ["count", "kind", "colour", "colour", "kind"])
    assert (found.overall.mean, found.num_questions) == (0.6, 5)
    assert {name: one.mean for name, one in found.by_type.items()} == {
        "count": 1.0,
        "kind": 0.5,
        "colour": 0.5,
    }
    values = np.repeat(np.random.default_rng(3).random(37) < 0.5, 5)
    alone = by_type(values, ["t"] * 185).overall
    together = by_type(values, ["t"] * 185, groups=np.repeat(np.arange(37), 5)).overall
    assert together.high - together.low > 1.7 * (alone.high - alone.low)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="1 and 2 entries"):
        exact_matches(["a"], ["a", "b"])
    with pytest.raises(UsageError, match="no annotator"):
        soft_matches(["a"], [[]])
    with pytest.raises(UsageError, match="1 questions, 2 answers"):
        Questions(["a?"], ["b", "c"], ["d"])


def asked(num: int, seed: int, leak: bool) -> Questions:
    """Yes or no; with a leak, a word of the question says which."""
    rng = np.random.default_rng(seed)
    answers = ["yes" if one else "no" for one in rng.random(num) < 0.5]
    words = [("red" if answer == "yes" else "blue") if leak else "red" for answer in answers]
    return Questions(
        [f"Is the {word} frog here?" for word in words], answers, ["Is the COLOUR frog here?"] * num
    )


def test_readers_find_a_leak_and_nothing_where_there_is_none() -> None:
    for leak, least, most in ((True, 1.0, 1.0), (False, 0.35, 0.65)):
        train, test = asked(211, 1, leak), asked(199, 2, leak)
        assert least <= bag_of_words(train, test).mean() <= most
        assert 0.35 < majority_answers(train, test).mean() < 0.65


def test_answers_that_training_has_not_are_wrong() -> None:
    train = Questions(["Which frog?", "Which key?"], ["red", "blue"], ["Which KIND?", "Which KIND?"])
    unknown = Questions(["Which frog?"], ["green"], ["Which KIND?"])
    assert not bag_of_words(train, unknown).any()
    assert not majority_answers(train, unknown).any()
