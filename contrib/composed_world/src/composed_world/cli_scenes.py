"""`sensorium data scenes`: compose scenes with known boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_pairs, note
from sensorium.cli.plugins import when_interrupted
from sensorium.core.errors import UsageError


@when_interrupted("remove the --out table, which is incomplete, then run")
def scenes(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="TABLE", help="The media table to make.")],
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Training scenes.")] = 20_000,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="Scenes of each held-out part.")] = 1_000,
    size: Annotated[int, typer.Option("--size", min=32, help="Side of the pictures in pixels.")] = 96,
    pictures: Annotated[
        str,
        typer.Option("--pictures", help="Where things come from: emoji, stamps, digits (scikit-learn's)."),
    ] = "emoji,stamps",
    things: Annotated[
        str, typer.Option("--things", metavar="A-B", help="Fewest and most things of a training scene.")
    ] = "3-6",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all choices.")] = 0,
    questions: Annotated[
        int,
        typer.Option("--questions", min=0, help="Most questions of each of six types about a scene."),
    ] = 2,
    captions: Annotated[
        str,
        typer.Option("--captions", help="What captions say: colour, size (and colour), place (and both)."),
    ] = "colour,size",
    json: JsonOption = False,
) -> None:
    """Compose scenes of real images, with phrases and their boxes, and questions with their answers.

    The table holds training scenes (source `scenes`) and three held-out parts: `scenes-seen` (new scenes),
    `scenes-combinations` (kinds in a colour that they do not have in training) and `scenes-objects` (kinds
    that no training scene has). Equal options give equal rows.
    """
    from composed_world.scenes_table import Plan, make_scenes

    plan = Plan(
        num, held_out, size, _listed(pictures), _read_range(things), seed, questions, _listed(captions)
    )
    with TerminalProgress() as progress:
        table = make_scenes(out, plan, progress)
    if json:
        emit_json({"path": str(table.path), "rows": len(table)})
    else:
        emit_pairs({"table": table.path, "rows": len(table)})
        note(f"next: sensorium train grounding --set data.table={out}")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not (dash and low.strip().isdigit() and high.strip().isdigit() and 1 <= int(low) <= int(high) <= 6):
        raise UsageError(f"--things {text}: expected two numbers from 1 to 6, as in --things 1-2")
    return int(low), int(high)
