"""`sensorium train`: from a recipe to a trained and measured model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.output import (
    PARTLY_FAILED,
    JsonOption,
    TerminalProgress,
    emit_json,
    emit_table,
    emit_text,
    note,
)
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.training.log import Figures
    from sensorium.training.trainer import Trained

app = typer.Typer(add_completion=False)


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A TOML file, or a name: media (takes whatever a table of yours holds), stamps, grounding."
            " `sensorium models` lists them.",
        ),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: train.lr=0.001; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out where it was stopped.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="RUN", help="Folder of the run.  [default: runs/RECIPE]"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a joint embedding, a grounder, a multimodal model or a codec from a recipe.

    The run's folder gets the model (model.safetensors, config.toml, card.md), the log (log.jsonl, curve.png,
    tensorboard/) and the state to go on from (last/). A killed run goes on with the same command and
    --resume, and ends as if it had never stopped. Exits 3 if some rows could not be read; errors.jsonl says
    which.
    """
    from sensorium.training.trainer import train as train_model

    if recipe in ("", "."):
        raise UsageError("no recipe: it is empty; give a TOML file or a name, such as media")
    folder = Path("runs") / Path(recipe).stem if out is None else out
    with TerminalProgress() as progress:
        trained = train_model(recipe, folder, changes=changes or [], resume=resume, progress=progress)
    _print(trained, json)
    if not trained.outcome.evaluation or not trained.outcome.evaluation.metrics:
        note("not measured: no two held-out rows hold two fields that could be compared")
    if trained.num_failed:
        note(f"{trained.num_failed} rows could not be read: {folder / 'errors.jsonl'}")
        raise typer.Exit(PARTLY_FAILED)


def _print(trained: Trained, json: bool) -> None:
    outcome = trained.outcome
    metrics = {} if outcome.evaluation is None else outcome.evaluation.metrics
    if json:
        result = {
            "run": str(trained.folder),
            "steps": outcome.steps,
            "loss": outcome.loss,
            "metrics": metrics,
        }
        emit_json(
            result | {"best": outcome.best, "best_step": outcome.best_step, "failed": trained.num_failed}
        )
        return
    first = next(iter(metrics.values()), {})
    names = [name for name in first if name.startswith(("R@", "chance@10"))] or numbers(first)
    if metrics:
        rows = [(pair, *(found.get(name, "") for name in names)) for pair, found in metrics.items()]
        emit_table(["held-out rows", *names], rows)
    emit_text(str(trained.folder))
    note(f"next: {trained.next_step}")


def numbers(figures: Figures) -> list[str]:
    """Names of the figures that are single numbers."""
    return [name for name, value in figures.items() if isinstance(value, int | float)]
