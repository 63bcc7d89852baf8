"""Reads and writes the questions and answers of a row (visual question answering).

They are stored as JSON in `Sample.meta["questions"]`: a list of objects with the strings `question`, `answer`
and `type`. A row without that key has no questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sensorium.core.errors import TableError
from sensorium.data.table.sample import Sample

KEY = "questions"


@dataclass(frozen=True)
class Question:
    """A question about a row, its short answer, and its type (`colour`, `count`, ...; "" if unknown)."""

    question: str
    answer: str
    type: str = ""


def to_meta(questions: Iterable[Question]) -> str:
    """JSON text to store under `KEY`.

    Example:
        >>> to_meta([Question("What colour is the frog?", "green", "colour")])
        '[{"question": "What colour is the frog?", "answer": "green", "type": "colour"}]'
    """
    return json.dumps([asdict(one) for one in questions], ensure_ascii=False)


def questions_of(sample: Sample) -> list[Question]:
    """Questions about a row; empty if it has none.

    Raises:
        TableError: If the stored value is not a list of questions.
    """
    stored = sample.meta.get(KEY, "[]")
    try:
        return [Question(**entry) for entry in json.loads(str(stored))]
    except (ValueError, TypeError) as error:
        raise TableError(
            f"{sample.uri}: cannot read its questions ({error}); expected a JSON list of "
            '{"question", "answer", "type"}'
        ) from error
