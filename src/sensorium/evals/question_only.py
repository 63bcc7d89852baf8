"""Question-only baselines of visual question answering: they measure the language prior of a test set.

Input: training and test questions with answers. Output: which test questions each baseline answers correctly.
Baselines: the majority answer of the question's template, and a linear classifier over words and word
bigrams. A model's accuracy above them is due to the image (Goyal et al., arXiv:1612.00837).
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
class Questions:
    """Questions with answers, without images.

    Attributes:
        questions: Texts.
        answers: One for each.
        forms: Template of each question ("What colour is the KIND?").
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


def majority_answers(train: Questions, test: Questions) -> Bool[np.ndarray, " n"]:
    """Which test questions the most frequent training answer of their template answers correctly.

    A template without training questions gets the most frequent answer of all. Ties go to the first answer in
    alphabetical order.

    Example:
        >>> train = Questions(["a?", "b?", "c?"], ["no", "no", "yes"], ["X?", "X?", "X?"])
        >>> majority_answers(train, Questions(["d?", "e?"], ["no", "yes"], ["X?", "Y?"])).tolist()
        [True, False]
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for form, answer in zip(train.forms, train.answers, strict=True):
        counts[form][answer] += 1
    overall = _majority(Counter(train.answers))
    best = {form: _majority(counter) for form, counter in counts.items()}
    pairs = zip(test.forms, test.answers, strict=True)
    return np.array([best.get(form, overall) == answer for form, answer in pairs], dtype=bool)


def bag_of_words(train: Questions, test: Questions, *, seed: int = 0) -> Bool[np.ndarray, " n"]:
    """Which test questions a linear classifier (`evals.probe`) over words and bigrams answers correctly.

    Raises:
        UsageError: If there is no training question.
    """
    vocabulary = sorted({term for question in train.questions for term in _terms(question)})
    terms = {term: place for place, term in enumerate(vocabulary)}
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


def _majority(counts: Counter[str]) -> str:
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
