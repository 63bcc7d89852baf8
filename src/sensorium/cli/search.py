"""`sensorium search`: finds rows of a table by text, image, sound, video, vector, row, or sums of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.options import DeviceOption, FieldOption, ModelOption, load_model
from sensorium.cli.output import JsonOption, emit_json, emit_table, note
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.core.types import Embedder
    from sensorium.data.table.table import Table
    from sensorium.search.query import Hit, Term
    from sensorium.search.searcher import SearchRequest

_JSON_FIELDS = ("id", "row", "score", "uri", "texts", "field", "relevance", "is_phrase_match")


def search(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A media table with vectors.")],
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY...", help="A text or a file; an argument + or - adds or subtracts the next."
        ),
    ] = None,
    model: ModelOption = None,
    like: Annotated[
        list[str] | None,
        typer.Option("--like", metavar="ROW|ID", help="Rows similar to this row; repeatable."),
    ] = None,
    vectors: Annotated[
        list[Path] | None,
        typer.Option("--vector", metavar="FILE.npy", help="Rows near this vector; repeatable."),
    ] = None,
    is_text: Annotated[
        bool, typer.Option("--text", help="Read QUERY as text, even if such a file exists.")
    ] = False,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Number of rows.")] = 10,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="SQL", help="Filter, such as: width_px >= 64 AND has_audio."),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            metavar="SHARE",
            help="Minimum relevance, 0 to 1: share of other queries whose best wrong answer scores lower.",
        ),
    ] = None,
    fields: FieldOption = None,
    ann: Annotated[
        bool,
        typer.Option("--ann", help="Search the approximate index that `sensorium data index` built."),
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw the hits as a contact sheet.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE.html", help="Write the hits as a page with players."),
    ] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
    json_fields: Annotated[
        str | None,
        typer.Option(
            "--fields",
            metavar="A,B,...",
            help=f"Keys that --json prints of a hit: {', '.join(_JSON_FIELDS)}.",
        ),
    ] = None,
) -> None:
    """Find rows by text, image, sound, video or vector.

    QUERY is a text, or the path of a file; words need no quotes. An argument + or - adds or subtracts the
    next: sensorium search TABLE a red apple - red + green. --like and --vector are added to the sum. Default
    model: the one that embedded the table. Rows with a caption that contains a text come first. A QUERY that
    looks like a path (frog.jpg, ./frog, a/b/c) must exist; --text searches it as words.
    --json prints [{"id", "score", "uri", "texts"}, ...], or what --fields names.
    """
    from sensorium.data.table.table import Table
    from sensorium.search.searcher import SearchRequest

    keys = _json_fields(json_fields, json)
    opened = Table.open(table)
    terms = _terms(opened, query or [], like or [], vectors or [], is_text)
    if not terms:
        raise UsageError("nothing to search for; give a text, a file, --like ROW or --vector FILE")
    request = SearchRequest(terms, k, where, min_score, fields or [], ann)
    found = _find(opened, request, model, device)
    if sheet is not None or html is not None:
        _draw(opened, terms, found, fields or [], sheet, html)
    if json:
        emit_json([{key: getattr(hit, key) for key in keys} for hit in found])
    else:
        _print(found)


def _json_fields(asked: str | None, is_json: bool) -> Sequence[str]:
    if asked is None:
        return ("id", "score", "uri", "texts")
    if not is_json:
        raise UsageError("--fields is for --json; the columns of the printed table are fixed")
    names = list(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    unknown = [name for name in names if name not in _JSON_FIELDS]
    if unknown or not names:
        wrong = f"no field '{unknown[0]}'" if unknown else "no field is named"
        raise UsageError(f"--fields {asked}: {wrong}; known: {', '.join(_JSON_FIELDS)}")
    return names


def _terms(
    table: Table, words: Sequence[str], like: Sequence[str], vectors: Sequence[Path], is_text: bool
) -> list[Term]:
    from sensorium.search.query import Term, find_row, parse_terms, read_vector

    terms = parse_terms(words, is_text=is_text) if words else []
    terms += [Term(find_row(table, name)) for name in like]
    return terms + [Term(read_vector(path)) for path in vectors]


def _find(table: Table, request: SearchRequest, run: Path | None, device: str) -> list[Hit]:
    """Search; the model is loaded only if the query contains texts or files."""
    from sensorium.search.embedding_log import latest_fingerprint, latest_model
    from sensorium.search.searcher import UnloadedModel, find

    needs_model = run is not None or any(isinstance(term.item, str | Path) for term in request.terms)
    model: Embedder = (
        load_model(run or latest_model(table), device)
        if needs_model
        else UnloadedModel(latest_fingerprint(table))
    )
    return find(table, request, model)


def _draw(
    table: Table,
    terms: Sequence[Term],
    found: Sequence[Hit],
    fields: Sequence[str],
    sheet: Path | None,
    html: Path | None,
) -> None:
    from sensorium.search.gallery import write_gallery
    from sensorium.search.query import describe

    write_gallery(table, [(terms, found)], title=describe(terms), sheet=sheet, page=html)
    for path in (sheet, html):
        if path is not None:
            note(f"wrote {path}")


def _print(found: Sequence[Hit]) -> None:
    if not found:
        note("nothing found")
        return
    columns = ["row", "score", "caption", "uri"]
    rows: list[list[object]] = [
        [hit.row, hit.score, hit.texts.get("en") or next(iter(hit.texts.values()), ""), hit.uri]
        for hit in found
    ]
    if found[0].relevance is not None:
        columns.insert(2, "relevance")
        for row, hit in zip(rows, found, strict=True):
            row.insert(2, hit.relevance)
    emit_table(columns, rows)
