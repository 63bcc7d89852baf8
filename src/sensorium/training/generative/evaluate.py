"""Loss and exact answers of a multimodal language model on held-out examples.

For each task and held-out source: the loss per id and the share of exact answers, beside a text-only
baseline. An answer is exact if every target id is the most likely one, so that greedy decoding would write
it; nothing has to be generated. Captions, transcripts and translations are also generated and measured
(`text_metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sensorium.evals.question_only import Questions, majority_answers
from sensorium.losses import next_id_loss
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.sequences import DecoderBatch
from sensorium.training.generative.batches import TaskData, all_batches
from sensorium.training.generative.text_metrics import written_measures
from sensorium.training.log import Figures
from sensorium.training.task import Evaluation

_ROWS_READ = 2000
"""Training rows of the text-only baseline."""
_EXACT = ("ask", "text")
"""Tasks with short answers, which are right or wrong as a whole."""


def evaluate(
    model: MultimodalLM, tasks: Sequence[TaskData], max_rows: int, max_written: int = 0
) -> Evaluation:
    """Measure each task on each of its held-out sources.

    The score is the mean over them of the share of exact answers, or of e^-loss where answers are long.
    """
    metrics: dict[str, Figures] = {}
    scores: list[float] = []
    for data in tasks:
        for name, rows in data.test.items():
            figures = measure(model, data, rows[:max_rows])
            figures |= written_measures(model, data, rows[: min(max_rows, max_written)])
            known = f"{data.config.task} {name}{_from(data)}"
            metrics[f"{known} of {data.config.table}" if known in metrics else known] = figures
            is_exact = data.config.task in _EXACT
            scores.append(float(figures["exact"]) if is_exact else float(np.exp(-float(figures["loss"]))))
    return Evaluation(float(np.mean(scores)), "mean of exact answers, or of e^-loss", metrics)


def _from(data: TaskData) -> str:
    """Suffix that separates two translation tasks over one table."""
    config = data.config
    is_foreign = config.task == "translate" and config.source_language != "en"
    return f" from {config.source_language}" if is_foreign else ""


def measure(model: MultimodalLM, data: TaskData, rows: np.ndarray) -> dict[str, float | int]:
    """Loss and share of exact answers over all examples of some rows, and by type of example."""
    right: list[bool] = []
    types: list[str] = []
    losses: list[float] = []
    sizes: list[int] = []
    for batch, asked in all_batches(model, data, rows):
        exact, loss, size = marks(model, batch)
        right += exact
        types += [one.type for one in asked]
        losses.append(loss)
        sizes.append(size)
    figures: dict[str, float | int] = {
        "exact": float(np.mean(right)) if right else 0.0,
        **_guessed(data, rows),
        "loss": float(np.average(losses, weights=sizes)) if sizes else float("inf"),
    }
    names = sorted({name for name in types if name})
    for name in names if len(names) > 1 else ():
        figures[name] = float(np.mean([one for one, type in zip(right, types, strict=True) if type == name]))
    return {**figures, "examples": len(right)}


def _guessed(data: TaskData, rows: np.ndarray) -> dict[str, float]:
    """Share of exact answers of a text-only baseline: the commonest answer to questions of the type."""
    if data.config.task not in _EXACT:
        return {}
    asked = []
    for some in (data.train[:_ROWS_READ], rows):
        found = [one for sample in data.read(some, text_only=True) for one in data.examples(sample)]
        texts = [one.instruction for one in found]
        asked.append(Questions(texts, [str(one.answer) for one in found], [one.type for one in found]))
    return {"without media": float(np.mean(majority_answers(*asked)))} if asked[1].questions else {}


@torch.no_grad()
def marks(model: MultimodalLM, batch: DecoderBatch) -> tuple[list[bool], float, int]:
    """Which sequences of a batch are exact, the mean loss per id, and the number of ids."""
    written = model(batch)
    matrix = model.decoder(batch.decoder).model.output_matrix
    loss = float(next_id_loss(written.hidden, matrix, written.targets))
    best = torch.cat([(part @ matrix.T).argmax(dim=1) for part in written.hidden.split(256)])
    sequence = (batch.sequences.targets >= 0).nonzero()[:, 0]
    wrong = torch.zeros(len(batch.sequences.ids), dtype=torch.int64, device=best.device)
    wrong.index_add_(0, sequence, (best != written.targets).to(torch.int64))
    return (wrong == 0).tolist(), loss, len(best)
