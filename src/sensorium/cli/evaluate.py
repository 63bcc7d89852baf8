"""`sensorium eval`: evaluates a run by recall between modalities, zero-shot accuracy and linear probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.options import DeviceOption
from sensorium.cli.output import PARTLY_FAILED, JsonOption, TerminalProgress, emit_json, emit_table

if TYPE_CHECKING:
    from sensorium.training.evaluate import Report


Figure = float | int | list[float]


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained model.")],
    table: Annotated[
        Path | None,
        typer.Option("--table", "-t", metavar="TABLE", help="Evaluate on all rows of this table instead."),
    ] = None,
    category: Annotated[
        str, typer.Option("--category", metavar="KEY", help="Metadata key of a row's class.")
    ] = "category",
    probe: Annotated[
        bool, typer.Option("--probe", help="Also fit a linear probe on the training rows.")
    ] = False,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Measure a run: recall between modalities, zero-shot accuracy, linear probe.

    Uses the held-out rows of the run's recipe, or all rows of --table. R@k: share of queries with a right
    item among the k nearest; chance@k: the same for a random order; [low high]: 95% interval, by bootstrap.
    Exits 3 if some rows could not be read.
    """
    from sensorium.training.evaluate import evaluate_run

    with TerminalProgress() as progress:
        report = evaluate_run(
            run, table=table, category=category, with_probe=probe, device=device, progress=progress
        )
    if json:
        emit_json({"n": report.num_rows, "metrics": report.metrics})
    else:
        print_report(report)
    if report.failures:
        raise typer.Exit(PARTLY_FAILED)


def print_report(report: Report) -> None:
    """Print recalls as one table, accuracies as another."""
    recalls = {name: found for name, found in report.metrics.items() if "->" in name}
    others = {name: found for name, found in report.metrics.items() if "->" not in name}
    if recalls:
        _print_table("from->to", recalls, ["R@1", "R@5", "R@10", "chance@10"], f"{report.num_rows} rows")
    if others:
        _print_table("task", others, ["acc@1", "acc@5", "chance@1"], "")


def _print_table(
    first: str, metrics: Mapping[str, Mapping[str, Figure]], columns: Sequence[str], title: str
) -> None:
    rows = [(name, *(_cell(found, column) for column in columns)) for name, found in metrics.items()]
    emit_table([first, *columns], rows, title)


def _cell(found: Mapping[str, Figure], name: str) -> str:
    """A metric with its interval, if it has one."""
    value, bounds = found.get(name), found.get(f"ci95 {name}")
    if value is None:
        return ""
    return f"{value:.3f}" + (f" [{bounds[0]:.2f} {bounds[1]:.2f}]" if isinstance(bounds, list) else "")
