"""`sensorium data questions`: measures how well questions are answered without the image (question bias)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_table

if TYPE_CHECKING:
    from sensorium.evals.bootstrap import Interval


def questions(
    path: Annotated[Path, typer.Argument(metavar="TABLE", help="A media table of composed scenes.")],
    train: Annotated[
        str, typer.Option("--train", metavar="SOURCE", help="Source whose questions are learned from.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choices.")] = 0,
    json: JsonOption = False,
) -> None:
    """Measure how well the questions of a table are answered without its images.

    Two baselines are trained on the questions of the first source: the commonest answer of a question's form,
    and a linear classifier over its words. [low high]: 95% interval, by bootstrap.
    """
    from composed_world.question_bias import question_bias
    from sensorium.data.table.table import Table

    with TerminalProgress() as progress:
        found = question_bias(Table.open(path), train=train, seed=seed, progress=progress)
    if json:
        emit_json([asdict(one) for one in found])
        return
    rows = [
        (one.source, one.type, one.num_questions, _cell(one.commonest), _cell(one.bag_of_words))
        for one in found
    ]
    emit_table(["source", "type", "questions", "commonest answer", "bag of words"], rows)


def _cell(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.2f} {value.high:.2f}]"
