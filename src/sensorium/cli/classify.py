"""`sensorium classify`: zero-shot classes of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.options import DeviceOption, ModelOption, load_model
from sensorium.cli.output import PARTLY_FAILED, JsonOption, TerminalProgress, emit_json, emit_table, note
from sensorium.core.errors import UsageError


def classify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Images, sounds or videos.")],
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B,C", help="Classes, separated by commas.")
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option("--labels-file", metavar="FILE", help="Text file with one class per line.")
    ] = None,
    model: ModelOption = None,
    templates: Annotated[
        list[str] | None,
        typer.Option("--template", metavar="TEXT", help="Prompt, with {c} for the class; repeatable."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Number of classes to print for each file.")] = 5,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Sort files into classes that are given as words.

    Zero-shot classification. Probabilities are over the given classes, so a file that fits none of them still
    gets one. Exits 3 if some files could not be read.
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
        results = classify_files(files, names, loaded, templates=templates or PHOTO, k=k, progress=progress)
    failed = [one for one in results if one.error]
    for one in failed:
        note(f"{one.path}: {one.error}")
    if json:
        listed = [[{"label": name, "score": score} for name, score in one.labels] for one in results]
        emit_json(
            [{"uri": str(one.path), "labels": labels} for one, labels in zip(results, listed, strict=True)]
        )
    else:
        rows = [(str(one.path), name, score) for one in results for name, score in one.labels]
        emit_table(["file", "class", "probability"], rows)
    if failed:
        raise typer.Exit(PARTLY_FAILED if len(failed) < len(results) else 1)
