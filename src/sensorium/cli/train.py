"""`sensorium train`: from a recipe to a trained and measured model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_table, note

if TYPE_CHECKING:
    from sensorium.tasks.train import Trained

app = typer.Typer(add_completion=False)

PARTLY_FAILED = 3


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A TOML file, or a name: stamps, grounding.")
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
    """Train a joint embedding or a grounder from a recipe.

    The run's folder gets the model (model.safetensors, config.toml, card.md), the log (log.jsonl, curve.png,
    tensorboard/) and the state to go on from (last/). A killed run goes on with the same command and
    --resume, and ends as if it had never stopped. Exits 3 if some rows could not be read; errors.jsonl says
    which.
    """
    from sensorium.tasks.train import train as train_model

    folder = Path("runs") / Path(recipe).stem if out is None else out
    with TerminalProgress() as progress:
        trained = train_model(recipe, folder, changes=changes or [], resume=resume, progress=progress)
    _print(trained, json)
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
    names = [name for name in next(iter(metrics.values()), {}) if name.startswith(("R@", "chance@10"))]
    if metrics:
        rows = [(pair, *(found[name] for name in names)) for pair, found in metrics.items()]
        emit_table(["held-out rows", *names], rows)
    print(trained.folder)
    note(f"next: {trained.next_step}")
