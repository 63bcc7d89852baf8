"""VQA accuracy: exact match or agreement with several annotators, after answer normalisation.

Input: predicted and expected answers. Output: a score for each question, then means with intervals, overall
and by question type. Normalisation follows the VQA evaluation (Antol et al., arXiv:1505.00468, as EvalAI runs
it): lower case, no articles, number words as digits, no punctuation. One difference: apostrophes are removed
here, where the original restores 113 contractions from a list (dont -> don't).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sensorium.core.errors import UsageError
from sensorium.evals.bootstrap import Interval, bootstrap_interval

_ENOUGH = 3
"""Number of agreeing annotators from which an answer scores 1."""
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = dict(zip("zero one two three four five six seven eight nine ten".split(), range(11), strict=True))
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


@dataclass(frozen=True)
class Answers:
    """Result of `by_type`.

    Attributes:
        overall: Mean over questions with its 95 % interval.
        by_type: The same for each question type.
        num_questions: Number of questions.
    """

    overall: Interval
    by_type: dict[str, Interval]
    num_questions: int


def normalise_answer(text: str) -> str:
    """Normalise an answer for comparison.

    A punctuation mark beside a space anywhere in the text, or any mark in a text with a number like "1,000",
    is deleted; other marks become spaces. This is the published rule.

    Example:
        >>> [normalise_answer(text) for text in ("The two frogs.", "red-brown", "1,000", "It's 2.5 m!")]
        ['2 frogs', 'red brown', '1000', 'its 2.5 m']
    """
    text = " ".join(text.split())
    kept = text
    has_thousands = _DIGIT_COMMA_DIGIT.search(text) is not None
    for mark in _PUNCTUATION:
        is_deleted = f"{mark} " in text or f" {mark}" in text or has_thousands
        kept = kept.replace(mark, "" if is_deleted else " ")
    words = _PERIOD.sub("", kept).replace("'", "").replace("’", "").lower().split()
    known = {**_NUMBERS, "none": 0}
    return " ".join(str(known.get(word, word)) for word in words if word not in _ARTICLES)


def exact_matches(predicted: Sequence[str], expected: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Whether each answer equals the expected one after normalisation.

    Raises:
        UsageError: If the lengths differ.

    Example:
        >>> exact_matches(["Two.", "a cat"], ["2", "dog"]).tolist()
        [True, False]
    """
    _check_lengths(predicted, expected)
    pairs = zip(predicted, expected, strict=True)
    return np.array([normalise_answer(one) == normalise_answer(other) for one, other in pairs], dtype=bool)


def soft_matches(predicted: Sequence[str], annotated: Sequence[Sequence[str]]) -> Float64[np.ndarray, " n"]:
    """VQA accuracy with several annotators: min(matches / 3, 1), averaged over leaving one annotator out.

    Args:
        predicted: Answers.
        annotated: Answers of the annotators, at least one per question; a single annotator is an exact match.

    Raises:
        UsageError: If the lengths differ, or a question has no annotator.

    Example:
        >>> soft_matches(["red"], [["red", "red", "blue", "pink"]]).round(3).tolist()
        [0.5]
    """
    _check_lengths(predicted, annotated)
    if any(len(answers) == 0 for answers in annotated):
        raise UsageError("a question has no annotator; leave it out, or give its answers")
    return np.array([_agreement(one, answers) for one, answers in zip(predicted, annotated, strict=True)])


def by_type(
    values: Bool[np.ndarray, " n"] | Float64[np.ndarray, " n"],
    types: Sequence[str],
    *,
    groups: Int64[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Answers:
    """Mean and 95 % interval, overall and by question type.

    Args:
        values: From `exact_matches` or `soft_matches`.
        types: Type of each question.
        groups: Group of each question, such as its image; see `bootstrap_interval`.
        seed: Seed of the bootstrap.

    Raises:
        UsageError: If there is no question, or the lengths differ.
    """
    _check_lengths(types, values)
    names = np.asarray(types)
    found = {}
    for name in sorted(set(types)):
        chosen = names == name
        found[name] = bootstrap_interval(
            values[chosen], groups=None if groups is None else groups[chosen], seed=seed
        )
    return Answers(bootstrap_interval(values, groups=groups, seed=seed), found, len(values))


def _agreement(predicted: str, answers: Sequence[str]) -> float:
    matches = [normalise_answer(answer) == normalise_answer(predicted) for answer in answers]
    if len(matches) == 1:
        return float(matches[0])
    others = [sum(matches) - match for match in matches]
    return float(np.mean([min(count / _ENOUGH, 1.0) for count in others]))


def _check_lengths(first: Sequence[object], second: Sequence[object] | np.ndarray) -> None:
    if len(first) != len(second):
        raise UsageError(f"{len(first)} and {len(second)} entries; expected one for each question")
