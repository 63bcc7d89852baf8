"""Question bias: how well the questions of a table are answered without the images.

Input: a table with questions (`sensorium data scenes`). Output: for each source and type the number of
questions, and the accuracy of two text-only baselines trained on the first source (`evals.text_only`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool

from composed_world.questions import form_of, masks
from composed_world.scenes import PALETTE
from composed_world.scenes_table import DIGITS, HELD_OUT_KINDS, KINDS
from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.questions import Question, questions_of
from sensorium.data.table.table import Table
from sensorium.evals.bootstrap import Interval
from sensorium.evals.question_only import Questions, bag_of_words, majority_answers
from sensorium.evals.vqa import by_type

ALL = "all"
_CHUNK = 4096
_MOST = 20_000
"""Maximum number of questions for training and for evaluation; more are sampled."""


@dataclass(frozen=True)
class Bias:
    """Text-only accuracy on the questions of one source and type.

    Attributes:
        source: Source of the rows.
        type: Type of the questions; `all` = every type.
        num_questions: Number of evaluated questions.
        commonest: Accuracy of the commonest answer of the form.
        bag_of_words: Accuracy of the linear classifier over words.
    """

    source: str
    type: str
    num_questions: int
    commonest: Interval
    bag_of_words: Interval


def question_bias(
    table: Table,
    *,
    train: str = "",
    num_rows: int | None = None,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Bias]:
    """Measure how well questions are answered without the images.

    Args:
        table: Rows with questions.
        train: Training source; "" = that of the first row with a question. If it is the only source, half of
            its rows are for evaluation.
        num_rows: Number of rows of each other source to evaluate on, from the first; None: all.
        seed: Of the sampling.
        progress: Told how many rows are read.

    Raises:
        UsageError: If no row has a question.
    """
    found = _read(table, progress)
    if not found:
        raise UsageError(f"{table.path}: no row has questions; compose some: sensorium data scenes -o NEW")
    train = train or next(iter(found))
    if train not in found:
        raise UsageError(f"no questions of source '{train}'; there are {', '.join(found)}")
    rng = np.random.default_rng([seed, 17])
    learned = list(chain.from_iterable(found.pop(train)))
    rest = {source: list(chain.from_iterable(rows[:num_rows])) for source, rows in found.items()}
    if not rest:
        order = rng.permutation(len(learned))
        rest = {train: [learned[place] for place in order[1::2]]}
        learned = [learned[place] for place in order[::2]]
    some = {source: _some(asked, rng) for source, asked in rest.items()}
    return _measure(_some(learned, rng), some, seed)


def _read(table: Table, progress: Progress) -> dict[str, list[list[Question]]]:
    """Questions of each row by source, in the order of the rows."""
    found: dict[str, list[list[Question]]] = {}
    starts = range(0, len(table), _CHUNK)
    for start in track(starts, len(starts), "reading questions", progress):
        numbers = range(start, min(start + _CHUNK, len(table)))
        for sample in table.rows(numbers, columns=["uri", "source", "meta"]):
            asked = questions_of(sample)
            if asked:
                found.setdefault(sample.source, []).append(list(asked))
    return found


def _some(asked: list[Question], rng: np.random.Generator) -> list[Question]:
    return [asked[place] for place in rng.permutation(len(asked))[:_MOST]]


def _measure(train: list[Question], rest: dict[str, list[Question]], seed: int) -> list[Bias]:
    """Train both baselines once, and divide their answers by source."""
    seen, held_out = _asked(train), _asked([one for asked in rest.values() for one in asked])
    commonest, words = majority_answers(seen, held_out), bag_of_words(seen, held_out, seed=seed)
    found, start = [], 0
    for source, asked in rest.items():
        part, start = slice(start, start + len(asked)), start + len(asked)
        found += _of_source(source, [one.type for one in asked], commonest[part], words[part], seed)
    return found


def _of_source(
    source: str, types: list[str], commonest: Bool[np.ndarray, " n"], words: Bool[np.ndarray, " n"], seed: int
) -> list[Bias]:
    first, second = by_type(commonest, types, seed=seed), by_type(words, types, seed=seed)
    return [
        Bias(source, ALL, len(types), first.overall, second.overall),
        *(
            Bias(source, type, types.count(type), first.by_type[type], second.by_type[type])
            for type in sorted(set(types))
        ),
    ]


def _asked(questions: list[Question]) -> Questions:
    hidden = masks([*KINDS, *HELD_OUT_KINDS, *DIGITS], PALETTE)
    texts = [one.question for one in questions]
    return Questions(texts, [one.answer for one in questions], [form_of(text, hidden) for text in texts])
