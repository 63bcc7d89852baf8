"""`sensorium classify`: zero-shot classes of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.options import DeviceOption, ModelOption, load_model
from sensorium.cli.output import PARTLY_FAILED, JsonOption, TerminalProgress, emit_json, emit_table, note
from sensorium.core.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def classify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Images, sounds or videos.")],
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B,C", help="Classes, separated by commas.")
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option("--labels-file", metavar="FILE", help="Classes, one a line.")
    ] = None,
    model: ModelOption = None,
    templates: Annotated[
        list[str] | None,
        typer.Option("--template", metavar="TEXT", help="Prompt, with {c} for the class; repeatable."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Classes to show for each file.")] = 5,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Sort files into classes that are given as words.

    Scores are probabilities over the given classes: a file that fits none of them still gets one.
    Exits 3 if some files could not be read.
    """
    if (labels is None) == (labels_file is None):
        raise UsageError("give the classes by one of --labels and --labels-file")
    from sensorium.evals.zero_shot import PHOTO
    from sensorium.search.classify import classify as classify_files
    from sensorium.search.classify import read_labels

    if labels_file is not None:
        names = read_labels(labels_file)
    else:
        names = [name.strip() for name in (labels or "").split(",") if name.strip()]
    loaded = load_model(model, device)
    with TerminalProgress() as progress:
        guesses = classify_files(files, names, loaded, templates=templates or PHOTO, k=k, progress=progress)
    failed = [guess for guess in guesses if guess.error]
    for guess in failed:
        note(f"{guess.path}: {guess.error}")
    if json:
        emit_json(
            [
                {
                    "uri": str(guess.path),
                    "labels": [{"label": name, "score": score} for name, score in guess.labels],
                }
                for guess in guesses
            ]
        )
    else:
        emit_table(
            ["file", "class", "probability"],
            [(str(guess.path), name, score) for guess in guesses for name, score in guess.labels],
        )
    if failed:
        raise typer.Exit(PARTLY_FAILED if len(failed) < len(guesses) else 1)
