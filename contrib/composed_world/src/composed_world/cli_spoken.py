"""`sensorium data spoken`: makes a table of synthetic speech in many voices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.output import PARTLY_FAILED, JsonOption, TerminalProgress, emit_json, emit_pairs, note
from sensorium.cli.plugins import when_interrupted


@when_interrupted("what is done is kept; to continue, run")
def spoken(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="TABLE", help="The media table; made if it is not there.")
    ],
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Rows to train on.")] = 20_000,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="Rows of each held-out part.")] = 500,
    sentences: Annotated[
        str,
        typer.Option(
            "--sentences", help="Where texts come from: scenes, stamps, prose and definitions (WordNet's)."
        ),
    ] = "scenes,stamps,prose",
    voice: Annotated[
        str, typer.Option("--voice", help="One voice for all rows, such as en-us or en-gb+f2; empty: many.")
    ] = "",
    rate: Annotated[int, typer.Option("--rate", min=8_000, max=48_000, help="Samples a second.")] = 16_000,
    format: Annotated[str, typer.Option("--format", help="flac, ogg or wav.")] = "flac",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all choices.")] = 0,
    json: JsonOption = False,
) -> None:
    """Synthesize English sentences with espeak-ng, in 100 voices and at many speeds, or in one voice.

    Sources of the rows: `spoken` (for training), `spoken-texts` (other texts), `spoken-voices` (other texts
    in 12 other voices; none with --voice). The same command resumes an interrupted run. A larger table begins
    with the rows of a smaller one.
    """
    from composed_world.spoken_table import Plan, make_spoken
    from sensorium.data.ingest.errors import NAME

    names = tuple(part.strip() for part in sentences.split(",") if part.strip())
    with TerminalProgress() as progress:
        table, num_failed = make_spoken(out, Plan(num, held_out, names, voice, rate, format, seed), progress)
    hours = float(table.column("duration_s").sum()) / 3600  # type: ignore[union-attr]
    if json:
        emit_json({"path": str(table.path), "rows": len(table), "hours": hours, "failed": num_failed})
    else:
        emit_pairs({"table": table.path, "rows": len(table), "hours": f"{hours:.2f}"})
    if num_failed:
        note(f"{num_failed:,} sentences gave no row; the reasons are in {out.parent / NAME}")
        raise typer.Exit(PARTLY_FAILED)
