"""`sensorium data index`: build an approximate index over a table's vectors and measure it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.options import ModelOption, load_model
from sensorium.cli.output import JsonOption, emit_json, emit_pairs, note

if TYPE_CHECKING:
    from sensorium.data.table.table import Table


class IndexKind(StrEnum):
    """Kinds of Lance vector indexes."""

    IVF_PQ = "ivf-pq"
    IVF_HNSW_SQ = "ivf-hnsw-sq"


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


def _fingerprint(table: Table, run: Path | None) -> str:
    """Fingerprint of the named model, else of the model that embedded the table last."""
    from sensorium.search.embedding_log import latest_fingerprint, read_log

    if run is None:
        return latest_fingerprint(table)
    known = [name for name, entry in read_log(table).items() if Path(entry.path) == run.resolve()]
    return known[-1] if known else load_model(run).fingerprint
