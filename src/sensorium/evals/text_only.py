"""What questions give away: readers who see no picture.

In: questions and answers to learn from and to be measured on. Out: which of the latter each reader answers
right. Two readers: the commonest answer of a question's form, and a linear classifier over its words and
pairs of neighbouring words. What a model that sees scores above them, it owes to what it saw (Goyal et al.,
arXiv:1612.00837). Knows no model that sees, and no file.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32

from sensorium.core.errors import UsageError
from sensorium.evals.probe import ProbeOptions, probe_scores

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Asked:
    """Questions as a reader without eyes meets them.

    Attributes:
        questions: Texts.
        answers: One for each.
        forms: What the questions have in common ("What colour is the KIND?"), one for each.
    """

    questions: Sequence[str]
    answers: Sequence[str]
    forms: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.questions) == len(self.answers) == len(self.forms):
            raise UsageError(
                f"{len(self.questions)} questions, {len(self.answers)} answers, {len(self.forms)} forms; "
                "expected equally many"
            )


def commonest_answers(train: Asked, test: Asked) -> Bool[np.ndarray, " n"]:
    """Which test questions are answered right by the commonest training answer of their form.

    A form that training does not have gets the commonest answer of all; of equally common ones the first in
    the alphabet.

    Example:
        >>> seen = Asked(["a?", "b?", "c?"], ["no", "no", "yes"], ["X?", "X?", "X?"])
        >>> commonest_answers(seen, Asked(["d?", "e?"], ["no", "yes"], ["X?", "Y?"])).tolist()
        [True, False]
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for form, answer in zip(train.forms, train.answers, strict=True):
        counts[form][answer] += 1
    overall = _commonest(Counter(train.answers))
    best = {form: _commonest(counter) for form, counter in counts.items()}
    pairs = zip(test.forms, test.answers, strict=True)
    return np.array([best.get(form, overall) == answer for form, answer in pairs], dtype=bool)


def bag_of_words(train: Asked, test: Asked, *, seed: int = 0) -> Bool[np.ndarray, " n"]:
    """Which test questions a linear classifier (see `evals.probe`) over words and word pairs answers right.

    Raises:
        UsageError: If there is nothing to learn from.
    """
    terms = {
        term: place for place, term in enumerate(sorted({t for q in train.questions for t in _terms(q)}))
    }
    classes = {answer: place for place, answer in enumerate(sorted(set(train.answers)))}
    labels = np.array([classes[answer] for answer in train.answers], dtype=np.int64)
    scores = probe_scores(
        (_counts(train.questions, terms), labels),
        _counts(test.questions, terms),
        num_classes=len(classes),
        options=ProbeOptions(seed=seed),
    )
    expected = np.array([classes.get(answer, -1) for answer in test.answers], dtype=np.int64)
    right: Bool[np.ndarray, " n"] = scores.argmax(axis=1) == expected
    return right


def _commonest(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer), default="")


def _terms(question: str) -> list[str]:
    words = _WORD.findall(question.lower())
    return words + [f"{one} {other}" for one, other in pairwise(words)]


def _counts(questions: Sequence[str], terms: dict[str, int]) -> Float32[np.ndarray, "n E"]:
    found = np.zeros((len(questions), len(terms)), dtype=np.float32)
    for row, question in enumerate(questions):
        for term in _terms(question):
            if term in terms:
                found[row, terms[term]] += 1
    return found
