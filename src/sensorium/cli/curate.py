"""`sensorium data dedup` and `filter`: leave out of a media table what is not worth keeping."""

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
        "--out", "-o", metavar="TABLE", help="Write what stays to a new table; without it, only report."
    ),
]


class By(StrEnum):
    """How rows are compared."""

    CONTENT = "content"
    PHASH = "phash"
    EMBEDDING = "embedding"


def dedup(
    path: TableArgument,
    by: Annotated[
        By, typer.Option("--by", help="Equal media, look-alike images, or near vectors of a model.")
    ] = By.CONTENT,
    distance: Annotated[
        int | None,
        typer.Option(
            "--distance", min=0, max=16, help="For phash: most differing bits of 64; 4 if not given."
        ),
    ] = None,
    cosine: Annotated[
        float | None,
        typer.Option("--cosine", min=-1, max=1, help="For embedding: least cosine; 0.97 if not given."),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            "--field",
            "-f",
            metavar="FIELD",
            help="For embedding: image, text, audio, speech or video; image if not given.",
        ),
    ] = None,
    model: ModelOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Find rows that repeat another, and write a table without them.

    Of images that look alike the largest stays, of equals the first. The given table is never changed.
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
    """Make sure that a model's vectors are in the table, and return its fingerprint."""
    from sensorium.models.embed import embed_table
    from sensorium.training.runs import trained_languages

    if run is None:
        raise UsageError("comparing by a model needs one; give --model RUN")
    model = load_model(run)
    with TerminalProgress() as progress:
        report = embed_table(table, model, fields=fields, languages=trained_languages(run), progress=progress)
    if report.failures:
        row, name, reason = report.failures[0]
        note(f"{len(report.failures):,} rows were not embedded; the first: row {row}, {name}: {reason}")
    return model.fingerprint


def _named(model: Path | None) -> Path | None:
    """The model that the command names; one that the environment names for all commands is not asked for."""
    return None if str(model) == os.environ.get("SENSORIUM_MODEL") else model


def _check_range(what: str, least: int | float | None, most: int | float | None) -> None:
    if least is not None and most is not None and least > most:
        raise UsageError(f"--min-{what} {least:g} is above --max-{what} {most:g}: no row would stay")


def _check_new(out: Path | None) -> None:
    """Refuse to write into a table that is there, before any work."""
    if out is not None and out.exists():
        raise TableError(f"{out} exists; curation writes a new table, choose another path")


def _finish(table: Table, selection: Selection, out: Path | None, json: bool) -> None:
    """Write the new table if one was asked for, and report in counts."""
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
        note(f"{selection.not_compared:,} rows had nothing to compare and stay")
    if out is None:
        note("nothing was written; give --out TABLE for a table of what stays")
