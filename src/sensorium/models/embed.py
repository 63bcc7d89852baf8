"""Computes the search vectors of a table's rows, and stores them in the table per model.

Input: a table and a joint embedding. Output: vectors in the table: one per image, sound and video, and one
per text and spoken caption in the chosen languages. An interrupted run resumes. Cached outputs of frozen
encoders are reused (`models.feature_cache`). Rows that cannot be read are reported and skipped; the next run
retries them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sensorium.core.errors import MediaError, UsageError, warn
from sensorium.core.runtime import Progress, quiet
from sensorium.core.types import MODALITY_OF
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.data.table.vectors import Ragged
from sensorium.models.feature_cache import COLUMN_OF, batched, feature_name, open_items
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.models.tower import Tower

ROWS_AT_ONCE: Mapping[str, int] = {"image": 128, "text": 512, "audio": 64, "speech": 64, "video": 8}
"""Rows per commit; an interrupted run loses at most one commit."""

_FEATURE_ROWS = 4096


@dataclass(frozen=True)
class EmbedReport:
    """Result of `embed_table`.

    Attributes:
        fingerprint: Fingerprint of the model.
        rows: Number of rows with new vectors, by field.
        failures: (row, field, reason) of the rows that could not be read.
    """

    fingerprint: str
    rows: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[tuple[int, str, str]] = ()


@dataclass(frozen=True)
class RowVectors:
    """Vectors of some rows; a row may have several.

    Attributes:
        rows: Row number of each vector, (n,).
        vectors: Unit vectors, (n, E).
        failures: (row, reason) of the rows that could not be read.
    """

    rows: Int64[np.ndarray, " n"]
    vectors: Float32[np.ndarray, "n E"]
    failures: Sequence[tuple[int, str]] = ()


def embed_table(
    table: Table,
    model: JointEmbedding,
    *,
    fields: Sequence[str] = (),
    languages: Sequence[str] = (),
    progress: Progress = quiet,
) -> EmbedReport:
    """Compute and store the vectors that a table lacks; each commit survives `kill -9`.

    Args:
        table: Table to read and write.
        model: Joint embedding.
        fields: Fields to embed; empty: all fields of the table that the model has a tower for.
        languages: Languages of texts and spoken captions; empty: all.
        progress: Called after each commit.

    Raises:
        UsageError: If the table lacks a requested field, the model cannot embed it, or the model can embed no
            field of the table.
    """
    fingerprint, written = model.fingerprint, dict[str, int]()
    failures: list[tuple[int, str, str]] = []
    chosen = fields_of(table, model, fields)
    if not fields:
        _warn_of_skipped(table, model, chosen)
    for name in chosen:
        missing = table.vectors_missing(name, fingerprint)
        written[name] = 0
        progress(0, len(missing), f"embedding {name}")
        done = 0
        for found, num_rows in _parts(table, model, name, missing, languages):
            if len(found.rows):
                table.set_vectors(name, fingerprint, found.rows, found.vectors)
            written[name] += len(np.unique(found.rows))
            failures += [(row, name, reason) for row, reason in found.failures]
            done += num_rows
            progress(done, len(missing), f"embedding {name}")
        if len(missing) and not written[name] and not any(field == name for _, field, _ in failures):
            warn(f"{name} of {len(missing):,} rows was not embedded: none is in {', '.join(languages)}")
    return EmbedReport(fingerprint, written, failures)


def _warn_of_skipped(table: Table, model: JointEmbedding, chosen: Sequence[str]) -> None:
    """Warn of fields without an encoder; raise if the model has an encoder for none."""
    skipped = [name for name in table.fields if name not in chosen]
    if skipped and not chosen:
        raise UsageError(
            f"the model embeds {', '.join(model.towers)}, {table.path} holds {', '.join(skipped)}; "
            "give another --model"
        )
    for name in skipped:
        count = len(table.rows_with(name))
        warn(
            f"{name} of {count:,} rows was not embedded: this model has no {MODALITY_OF[name]} encoder; "
            f"train one that has: sensorium train media --set data.table={table.path}"
        )


def fields_of(table: Table, model: JointEmbedding, asked: Sequence[str] = ()) -> list[str]:
    """Return the requested fields, or all fields of a table that a model can embed.

    Raises:
        UsageError: If a requested field cannot be embedded.
    """
    held = table.fields
    possible = [name for name in held if MODALITY_OF[name] in model.towers]
    for name in asked:
        if name not in MODALITY_OF:
            raise UsageError(f"no field '{name}'; known: {', '.join(MODALITY_OF)}")
        if name not in possible:
            why = "the model has no tower for it" if name in held else "the table holds none"
            raise UsageError(f"cannot embed '{name}': {why}; possible: {', '.join(possible) or 'nothing'}")
    return list(asked) or possible


def embed_rows(
    table: Table,
    model: JointEmbedding,
    name: str,
    rows: Int64[np.ndarray, " n"],
    *,
    languages: Sequence[str] = (),
) -> RowVectors:
    """Vectors of one field of some rows, not stored; no languages means all. Rows without it have none."""
    parts = [found for found, _ in _parts(table, model, name, rows, languages)]
    empty = np.zeros((0, model.config.dim), np.float32)
    return RowVectors(
        np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)]),
        np.concatenate([empty, *(part.vectors for part in parts)]),
        [failure for part in parts for failure in part.failures],
    )


def _parts(
    table: Table, model: JointEmbedding, name: str, rows: Int64[np.ndarray, " n"], languages: Sequence[str]
) -> Iterator[tuple[RowVectors, int]]:
    """Yield the vectors of `rows` in parts, with the number of rows of each part."""
    cached = _cached_features(table, model.tower(name), name, languages) if len(rows) else None
    if cached is not None:
        has_features = cached.counts[rows] > 0
        for part in batched(rows[has_features], _FEATURE_ROWS):
            yield _project(model, name, cached, part), len(part)
        rows = rows[~has_features]
    with ThreadPoolExecutor(2) as pool:
        for part in batched(rows, ROWS_AT_ONCE[name]):
            yield _open_and_embed(table, model, name, part, languages, pool), len(part)


def _cached_features(table: Table, tower: Tower, name: str, languages: Sequence[str]) -> Ragged | None:
    """Cached pooled vectors of the tower's frozen encoder, if the table has them for the same items."""
    if not tower.is_cacheable:
        return None
    if MODALITY_OF[name] not in ("image", "video"):
        wanted = feature_name(name, tower, views=1, languages=languages)
        return table.features(wanted) if wanted in table.feature_names() else None
    prefix = feature_name(name, tower, views=0, languages=()).removesuffix("0")
    num_views = [int(kept.removeprefix(prefix)) for kept in table.feature_names() if kept.startswith(prefix)]
    enough = [views for views in num_views if views >= tower.config.views]
    return table.features(f"{prefix}{min(enough)}") if enough else None


@torch.no_grad()
def _project(model: JointEmbedding, name: str, cached: Ragged, rows: Int64[np.ndarray, " n"]) -> RowVectors:
    """Run only the head on cached vectors; views of an image are averaged as in `JointEmbedding.embed`."""
    tower = model.tower(name)
    has_views = MODALITY_OF[name] in ("image", "video")
    items = [cached[row][: tower.config.views] if has_views else cached[row] for row in rows.tolist()]
    counts = np.array([len(item) for item in items], dtype=np.int64)
    was_training = model.training
    model.eval()
    try:
        features = torch.from_numpy(np.concatenate(items)).to(model.device)
        vectors = tower.project(features).float().cpu().numpy()
    finally:
        model.train(was_training)
    if not has_views:
        return RowVectors(np.repeat(rows, counts), vectors)
    sums = np.add.reduceat(vectors, np.cumsum(counts) - counts, axis=0)
    return RowVectors(rows, sums / np.linalg.norm(sums, axis=1, keepdims=True))


def _open_and_embed(
    table: Table,
    model: JointEmbedding,
    name: str,
    rows: Int64[np.ndarray, " n"],
    languages: Sequence[str],
    pool: ThreadPoolExecutor,
) -> RowVectors:
    target_px = model.tower(name).target_px

    def open_row(sample: Sample) -> list[object] | str:
        try:
            return list(open_items(sample, name, languages, target_px))
        except MediaError as error:
            return str(error)

    samples = table.rows(rows, columns=[COLUMN_OF[name]])
    opened = list(pool.map(open_row, samples))
    failures = [(int(row), found) for row, found in zip(rows, opened, strict=True) if isinstance(found, str)]
    items = [[] if isinstance(found, str) else found for found in opened]
    owners = np.repeat(rows, [len(item) for item in items])
    vectors = model.embed([item for row in items for item in row]).vectors  # type: ignore[misc]
    return RowVectors(owners, vectors, failures)
