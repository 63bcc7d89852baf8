"""`sensorium data dedup` and `data filter`: remove duplicates and unsuitable rows from a media table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.options import ModelOption, TableArgument, load_model
from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_table, note
from sensorium.cli.parameters import check_unused
from sensorium.core.errors import TableError, UsageError

if TYPE_CHECKING:
    from sensorium.data.curation.curate import Selection
    from sensorium.data.table.table import Table

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
