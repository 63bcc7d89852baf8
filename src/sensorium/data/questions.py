"""Questions and answers about a row: how they lie in its metadata.

In: questions with their answers. Out: JSON under `Sample.meta["questions"]`, a list of objects with the
plain texts `question`, `answer` and `type`, and back. A row may have none: tables made before there were
questions stay readable. Who asks them, and of what, is not known here.
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
    """A question about a row.

    Attributes:
        question: As a person asks it.
        answer: Short.
        type: What has to be understood to answer: `colour`, `count`, ...; "" where not said.
    """

    question: str
    answer: str
    type: str = ""


def to_meta(questions: Iterable[Question]) -> str:
    """What stands under `KEY`.

    Example:
        >>> to_meta([Question("What colour is the frog?", "green", "colour")])
        '[{"question": "What colour is the frog?", "answer": "green", "type": "colour"}]'
    """
    return json.dumps([asdict(one) for one in questions], ensure_ascii=False)


def questions_of(sample: Sample) -> list[Question]:
    """Questions about a row; none where it has none.

    Raises:
        TableError: If what stands there is not a list of questions.
    """
    stored = sample.meta.get(KEY, "[]")
    try:
        return [Question(**entry) for entry in json.loads(str(stored))]
    except (ValueError, TypeError) as error:
        raise TableError(
            f"{sample.uri}: its questions do not read ({error}); expected a JSON list of "
            '{"question", "answer", "type"}'
        ) from error
