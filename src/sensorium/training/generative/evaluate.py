"""How well a multimodal language model does its tasks, in the middle of training and after.

In: a model and held-out exercises. Out: for each task and held-out source, the loss of an id and the share of
exercises done exactly, beside what a reader of the instructions alone gets right. An answer is exact if at
each of its places the likeliest id is the right one: what greedy decoding would write is then the answer, and
nothing has to be written to know it. Long texts are measured by what is written (`tasks.written_answers`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sensorium.evals.text_only import Asked, commonest_answers
from sensorium.losses import next_id_loss
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.sequences import DecoderBatch
from sensorium.training.generative.batches import Course, whole_lessons
from sensorium.training.generative.text_metrics import written_measures
from sensorium.training.log import Figures
from sensorium.training.loop import Evaluation

_ROWS_READ = 2000
"""Training rows from which the commonest answers are learned."""
_EXACT = ("ask", "text")
"""Tasks whose answers are short enough to be right or wrong as a whole."""


def evaluate(
    model: MultimodalLM, courses: Sequence[Course], max_rows: int, max_written: int = 0
) -> Evaluation:
    """Measure each task on each of its held-out sources.

    The score is the mean over them of the share of exact answers, or of e^-loss where answers are long.
    """
    metrics: dict[str, Figures] = {}
    scores: list[float] = []
    for course in courses:
        for name, rows in course.test.items():
            figures = measure(model, course, rows[:max_rows])
            figures |= written_measures(model, course, rows[: min(max_rows, max_written)])
            known = f"{course.config.task} {name}{_from(course)}"
            metrics[f"{known} of {course.config.table}" if known in metrics else known] = figures
            is_exact = course.config.task in _EXACT
            scores.append(float(figures["exact"]) if is_exact else float(np.exp(-float(figures["loss"]))))
    return Evaluation(float(np.mean(scores)), "mean of exact answers, or of e^-loss", metrics)


def _from(course: Course) -> str:
    """What tells two translations over one table apart."""
    config = course.config
    is_foreign = config.task == "translate" and config.source_language != "en"
    return f" from {config.source_language}" if is_foreign else ""


def measure(model: MultimodalLM, course: Course, rows: np.ndarray) -> dict[str, float | int]:
    """Loss and share of exact answers over all exercises of some rows, and over those of each type."""
    right: list[bool] = []
    types: list[str] = []
    losses: list[float] = []
    sizes: list[int] = []
    for lesson, asked in whole_lessons(model, course, rows):
        exact, loss, size = marks(model, lesson)
        right += exact
        types += [one.type for one in asked]
        losses.append(loss)
        sizes.append(size)
    figures: dict[str, float | int] = {
        "exact": float(np.mean(right)) if right else 0.0,
        **_guessed(course, rows),
        "loss": float(np.average(losses, weights=sizes)) if sizes else float("inf"),
    }
    names = sorted({name for name in types if name})
    for name in names if len(names) > 1 else ():
        figures[name] = float(np.mean([one for one, type in zip(right, types, strict=True) if type == name]))
    return {**figures, "exercises": len(right)}


def _guessed(course: Course, rows: np.ndarray) -> dict[str, float]:
    """Share that is exact without any medium: the commonest training answer to questions of the type."""
    if course.config.task not in _EXACT:
        return {}
    asked = []
    for some in (course.train[:_ROWS_READ], rows):
        found = [one for sample in course.read(some, words_only=True) for one in course.exercises(sample)]
        texts = [one.instruction for one in found]
        asked.append(Asked(texts, [str(one.answer) for one in found], [one.type for one in found]))
    return {"without media": float(np.mean(commonest_answers(*asked)))} if asked[1].questions else {}


@torch.no_grad()
def marks(model: MultimodalLM, lesson: DecoderBatch) -> tuple[list[bool], float, int]:
    """Which sequences of a lesson are exact, the mean loss of an id, and how many ids there are."""
    written = model(lesson)
    matrix = model.decoder(lesson.decoder).model.output_matrix
    loss = float(next_id_loss(written.hidden, matrix, written.targets))
    best = torch.cat([(part @ matrix.T).argmax(dim=1) for part in written.hidden.split(256)])
    sequence = (lesson.sequences.targets >= 0).nonzero()[:, 0]
    wrong = torch.zeros(len(lesson.sequences.ids), dtype=torch.int64, device=best.device)
    wrong.index_add_(0, sequence, (best != written.targets).to(torch.int64))
    return (wrong == 0).tolist(), loss, len(best)
