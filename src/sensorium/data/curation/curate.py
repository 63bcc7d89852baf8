"""Curation of a media table: finds duplicates and filtered rows, and writes a new table without them.

Input: a table. Output: a `Selection` of rows with the reason of each drop, and on request a new table. The
given table is not changed. Cached features and vectors are not copied, since row numbers change.
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
from sensorium.data.curation.dedup import near_hash, near_vector, same_key
from sensorium.data.curation.filters import Filters, drop_reasons
from sensorium.data.curation.measure import colour_distance, measure_rows
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table

By = Literal["content", "phash", "embedding"]
MAX_COLOUR_DISTANCE = 12.0
"""Largest mean difference of colours (0 to 255) at which images of one hash count as duplicates."""

_READ_ROWS = 64


@dataclass(frozen=True)
class Selection:
    """The rows of a table that are kept.

    Attributes:
        rows: Numbers of the kept rows, ascending.
        dropped: Number of dropped rows, by reason.
        repeats: (duplicate, kept row) for each duplicate.
        not_compared: Number of rows that could not be compared (no image, no vector, a flat image); kept.
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
    """Find duplicates; of each set the largest image is kept, of equal sizes the first row.

    Args:
        table: The table.
        by: `content`: equal media bytes with any captions; for rows of text only, equal texts. `phash`:
            images of similar colours whose hashes differ in at most `max_distance` of 64 bits.
            `embedding`: rows whose vectors of one model have a cosine of at least `min_cosine`.
        max_distance: For `phash`, 0 to 16.
        min_cosine: For `embedding`, in (-1, 1].
        fingerprint: For `embedding`, the model.
        modality: For `embedding`, the field whose vectors are compared.
        progress: Reports the number of rows measured.

    Raises:
        UsageError: If a bound is out of range.
        NotFoundError: If the table has no vectors of the model.
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
        if not -1 < min_cosine <= 1:
            raise UsageError(f"min_cosine={min_cosine} is out of range; expected -1 to 1, e.g. 0.97")
        target = near_vector(vectors, min_cosine)
    if by == "phash":
        target = _keep_other_colours(table, rows, target)
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
    """Find rows that do not pass `filters` (see `drop_reasons`)."""
    reasons = drop_reasons(table, filters, scores, progress=progress)
    kept = np.array([row for row, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    dropped = Counter(reason for reason in reasons if reason is not None)
    unscored = 0 if scores is None else int(np.isnan(scores).sum())
    return Selection(kept, dict(dropped.most_common()), not_compared=unscored)


def write_rows(
    table: Table, rows: Int64[np.ndarray, " k"], out: str | Path, *, progress: Progress = quiet
) -> Table:
    """Copy rows with their measurements into a new table.

    Raises:
        TableError: If `out` exists.
    """
    path = Path(out)
    if path.exists():
        raise TableError(f"{path} exists; curation writes a new table: choose another path")
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


def _keep_other_colours(
    table: Table, rows: Int64[np.ndarray, " k"], target: Int64[np.ndarray, " k"]
) -> Int64[np.ndarray, " k"]:
    """Keep rows whose colours differ from those of the row with a similar hash."""
    repeats = np.flatnonzero(target != np.arange(len(rows)))
    pairs = np.stack([rows[repeats], rows[target[repeats]]], axis=1)
    other = repeats[colour_distance(table, pairs) > MAX_COLOUR_DISTANCE]
    result = target.copy()
    result[other] = other
    return result


def _media_keys(table: Table) -> list[bytes]:
    """Digest of each row's media, or of its texts if it has no media."""
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
    index = np.full(len(table), -1, dtype=np.int64)
    index[distinct] = first
    chosen = order[index[order] >= 0]
    return chosen, vectors[index[chosen]]
