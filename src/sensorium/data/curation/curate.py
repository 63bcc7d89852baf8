"""Curation of a media table: what would be dropped and why, and a new table without it.

In: a table. Out: a `Selection` in counts, and on request a new table; the old one is never changed. Cached
features and vectors stay with the old table, since they belong to its row numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

from sensorium.core.errors import TableError, UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.curation import filters as filtering
from sensorium.data.curation.dedup import near_hash, near_vector, same_key
from sensorium.data.curation.filters import Filters
from sensorium.data.curation.measure import colour_distance, measure_rows
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table

By = Literal["content", "phash", "embedding"]
MAX_COLOUR_DISTANCE = 12.0
"""Mean difference of colours (0 to 255) up to which images of one hash are taken for the same."""

_READ_ROWS = 64


@dataclass(frozen=True)
class Selection:
    """Which rows of a table stay.

    Attributes:
        rows: Their numbers, ascending.
        dropped: How many go, by reason.
        repeats: For each row that repeats another: (row, the row that stays for it).
        not_compared: Rows that had nothing to compare (no image, no vector, a flat image); they stay.
    """

    rows: Int64[np.ndarray, " k"]
    dropped: dict[str, int] = field(default_factory=dict)
    repeats: tuple[tuple[int, int], ...] = ()
    not_compared: int = 0


def find_duplicates(
    table: Table,
    by: By = "content",
    *,
    max_distance: int = 4,
    min_cosine: float = 0.97,
    fingerprint: str = "",
    modality: str = "image",
    progress: Progress = quiet,
) -> Selection:
    """Find rows that repeat another; of a group the largest image stays, of equals the first.

    Args:
        table: The rows.
        by: `content`: equal media bytes, whatever the captions (rows equal in both are never added); for
            rows of text alone, equal texts. `phash`: images of like colours whose hashes differ in at most
            `max_distance` of 64 bits. `embedding`: rows whose vectors of one model have a cosine of at
            least `min_cosine`.
        max_distance: For `phash`, 0 to 16.
        min_cosine: For `embedding`.
        fingerprint: For `embedding`: the model.
        modality: For `embedding`: the field whose vectors are compared.
        progress: Told how many rows were measured, where that has not been done.

    Raises:
        UsageError: If a bound is out of range.
        NotFoundError: If the model's vectors are not in the table.
    """
    known = measure_rows(table, hashes=by == "phash", progress=progress)
    order = np.argsort(-known.width_px * known.height_px, kind="stable")
    if by == "content":
        keys = _media_keys(table)
        rows, target = order, same_key([keys[row] for row in order])
    elif by == "phash":
        rows = order[known.has_hash[order]]
        target = near_hash(known.phash[rows], max_distance)
    else:
        rows, vectors = _first_vectors(table, modality, fingerprint, order)
        target = near_vector(vectors, _checked_cosine(min_cosine))
    if by == "phash":
        target = _of_like_colours(table, rows, target)
    is_repeat = target != np.arange(len(rows))
    kept = np.setdiff1d(np.arange(len(table)), rows[is_repeat])
    repeats = sorted(zip(rows[is_repeat].tolist(), rows[target[is_repeat]].tolist(), strict=True))
    dropped = {f"repeats another by {by}": len(repeats)} if repeats else {}
    return Selection(kept, dropped, tuple(repeats), len(table) - len(rows))


def filter_rows(
    table: Table,
    filters: Filters,
    scores: Float32[np.ndarray, " n"] | None = None,
    *,
    progress: Progress = quiet,
) -> Selection:
    """Find rows that do not satisfy `filters` (see `filters.reasons`)."""
    found = filtering.reasons(table, filters, scores, progress=progress)
    dropped = Counter(reason for reason in found if reason is not None)
    unscored = 0 if scores is None else int(np.isnan(scores).sum())
    return Selection(filtering.rows_of(found), dict(dropped.most_common()), not_compared=unscored)


def write_rows(
    table: Table, rows: Int64[np.ndarray, " k"], out: str | Path, *, progress: Progress = quiet
) -> Table:
    """Copy some rows, with everything measured of them, into a new table.

    Raises:
        TableError: If `out` exists.
    """
    path = Path(out)
    if path.exists():
        raise TableError(f"{path} exists; curation writes a new table, choose another path")
    new = Table.create(
        path, description=table.info.get("description", ""), licence=table.info.get("licence", "")
    )
    new.add(
        _read(table, rows), progress=lambda done, total, message: progress(done, len(rows), "rows written")
    )
    new.optimize()
    return new


def _read(table: Table, rows: Int64[np.ndarray, " k"]) -> Iterator[Sample]:
    for start in range(0, len(rows), _READ_ROWS):
        yield from table.rows(rows[start : start + _READ_ROWS])


def _of_like_colours(
    table: Table, rows: Int64[np.ndarray, " k"], target: Int64[np.ndarray, " k"]
) -> Int64[np.ndarray, " k"]:
    """Let those rows stay whose colours are other than those of the row that they seem to repeat."""
    places = np.flatnonzero(target != np.arange(len(rows)))
    pairs = np.stack([rows[places], rows[target[places]]], axis=1)
    other = places[colour_distance(table, pairs) > MAX_COLOUR_DISTANCE]
    result = target.copy()
    result[other] = other
    return result


def _media_keys(table: Table) -> list[bytes]:
    """Digest of each row's media, or of its texts where it has none."""
    keys: list[bytes] = []
    for sample in _read(table, np.arange(len(table))):
        media = (sample.image, sample.audio, sample.video, *(clip.data for clip in sample.speech))
        digest = hashlib.sha256()
        if any(data is not None for data in media):
            for data in media:
                digest.update(b"\0" if data is None else hashlib.sha256(data).digest())
        else:
            digest.update(repr(sample.texts).encode())
        keys.append(digest.digest())
    return keys


def _first_vectors(
    table: Table, modality: str, fingerprint: str, order: Int64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, "k E"]]:
    """The first vector of each row that has one, in the given order of rows."""
    rows, vectors = table.vectors(modality, fingerprint)
    distinct, first = np.unique(rows, return_index=True)
    place = np.full(len(table), -1, dtype=np.int64)
    place[distinct] = first
    chosen = order[place[order] >= 0]
    return chosen, vectors[place[chosen]]


def _checked_cosine(value: float) -> float:
    if not -1 < value <= 1:
        raise UsageError(f"least cosine {value} is out of range; expected a number up to 1, such as 0.97")
    return value
