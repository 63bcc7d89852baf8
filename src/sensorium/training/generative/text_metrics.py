"""Answers written in full, and how they are measured: captions, transcripts and translations.

In: a model and held-out rows. Out: what greedy decoding writes for each, and the measure of the task beside
that of a baseline that needs no model: for a translation, the text itself and what plug-ins make of it; for a
caption, the commonest one. Measures: `evals.captioning`, `evals.speech`, `evals.translation`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sensorium.core.registry import Registry
from sensorium.evals.captioning import evaluate_captions
from sensorium.evals.speech import evaluate_transcripts
from sensorium.evals.translation import evaluate_translations
from sensorium.generation.multimodal import engine_of, requests, text_decoder_of
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.prompts import parse_translation
from sensorium.training.generative.batches import Course, whole_lessons
from sensorium.training.generative.examples import Exercise

_ROWS_READ = 4000
"""Training rows that baselines learn from."""
BASELINES: Registry[Callable[[str], str]] = Registry("translation_baseline")
"""Translators that learn from pairs of a text and its translation; a figure is named after each."""


@dataclass(frozen=True)
class Answer:
    """What was written for an exercise.

    Attributes:
        row: Of the table.
        exercise: What was asked.
        text: What was written.
    """

    row: int
    exercise: Exercise
    text: str


def write_answers(
    model: MultimodalLM, course: Course, rows: np.ndarray, *, num_rows: int = 16
) -> list[Answer]:
    """Write an answer to every exercise of some rows, greedily.

    Args:
        model: In evaluation mode.
        course: Whose answers are texts.
        rows: Which rows.
        num_rows: Answers that are written at a time.
    """
    found: list[Answer] = []
    engine, decoder = engine_of(model, "text", num_rows=num_rows), text_decoder_of(model)
    for lesson, asked in whole_lessons(model, course, rows):
        instructions = [one.instruction for one in asked]
        most = course.config.max_tokens
        done = engine.run(requests(model, "text", lesson.media, instructions, max_tokens=most))
        done = done if decoder is None else [decoder(one) for one in done]
        found += [
            Answer(row, one, each.text.strip())
            for row, one, each in zip(lesson.rows.tolist(), asked, done, strict=True)
        ]
    return found


def written_measures(model: MultimodalLM, course: Course, rows: np.ndarray) -> dict[str, float]:
    """Measure what is written for some rows by the task's own measure; nothing for tasks without one."""
    measure = _MEASURES.get(course.config.task)
    if measure is None or len(rows) == 0:
        return {}
    answers = write_answers(model, course, rows)
    return measure(course, answers) if answers else {}


def _captions(course: Course, answers: Sequence[Answer]) -> dict[str, float]:
    """CIDEr-D, of the first caption written for each row against all that the row has."""
    references: dict[int, list[str]] = {}
    first: dict[int, str] = {}
    for one in answers:
        references.setdefault(one.row, []).append(str(one.exercise.answer))
        first.setdefault(one.row, one.text)
    trained = Counter(str(one.answer) for one in _trained(course))
    commonest = [trained.most_common(1)[0][0]] * len(first)
    expected = list(references.values())
    return {
        "CIDEr-D": evaluate_captions(list(first.values()), expected).cider.mean,
        "CIDEr-D of the commonest": evaluate_captions(commonest, expected).cider.mean,
    }


def _transcripts(course: Course, answers: Sequence[Answer]) -> dict[str, float]:
    found = evaluate_transcripts([one.text for one in answers], [str(one.exercise.answer) for one in answers])
    return {"WER": found.wer.mean, "CER": found.cer.mean}


def _translations(course: Course, answers: Sequence[Answer]) -> dict[str, float]:
    """ChrF into each language, with that of the text as it is and of baselines that plug-ins bring."""
    figures: dict[str, float] = {}
    trained = _trained(course)
    for language in sorted({one.exercise.type for one in answers}):
        own = [one for one in answers if one.exercise.type == language]
        texts, expected = [_text(one.exercise) for one in own], [str(one.exercise.answer) for one in own]
        pairs = [(_text(one), str(one.answer)) for one in trained if one.type == language]
        known = {name: BASELINES.build(name, pairs=pairs) for name in BASELINES}
        for name, written in (
            (f"chrF {language}", [one.text for one in own]),
            (f"chrF {language} copied", texts),
            *((f"chrF {language} {name}", [one(text) for text in texts]) for name, one in known.items()),
        ):
            found = evaluate_translations(written, expected, language=language, num_resamples=2)
            figures[name] = found.chrf.mean
    return figures


_MEASURES: Mapping[str, Callable[[Course, Sequence[Answer]], dict[str, float]]] = {
    "caption": _captions,
    "transcribe": _transcripts,
    "translate": _translations,
}


def _trained(course: Course) -> list[Exercise]:
    samples = course.read(course.train[:_ROWS_READ])
    return [one for sample in samples for one in course.exercises(sample)]


def _text(exercise: Exercise) -> str:
    """What is to be translated: the instruction without its order."""
    found = parse_translation(exercise.instruction)
    assert found is not None
    return found[1]
