"""Cache of frozen encoders' outputs in the media table: pooled vectors, one per item and view.

Input: a field of a table, and a tower with a frozen encoder. Output: vectors stored beside the rows: one per
view of an image, per text, and per audio clip in the chosen languages. An interrupted run continues with the
missing rows. The cache name holds all that determines a value (encoder, input, number of views), so that
other settings never read these vectors. Fast backends are tried for long runs (`encoders.backend`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sensorium import media
from sensorium.core.errors import MediaError
from sensorium.core.runtime import Progress, quiet
from sensorium.core.types import Padded, Tokens, pad
from sensorium.data.table.sample import Sample, asked_of, is_asked
from sensorium.data.table.table import Table
from sensorium.encoders.backend import Report, probe
from sensorium.media.types import Media
from sensorium.models.tower import Tower

COLUMN_OF = {"image": "image", "text": "texts", "audio": "audio", "speech": "speech", "video": "video"}
ITEMS_AT_ONCE = 256
SECONDS_BETWEEN_WRITES = 20.0
WORTH_A_PROBE_S = 20.0
"""Estimated run time in eager mode above which other backends are timed; timing takes about as long."""


@dataclass(frozen=True)
class Cached:
    """Result of `cache_features`.

    Attributes:
        name: Name of the vectors in the table.
        num_rows: Number of rows that were missing.
        failures: Rows that could not be read, with the reason; they have no vectors.
        report: Timings of backends, if the run was long enough to try them.
    """

    name: str
    num_rows: int
    failures: Sequence[tuple[int, str]]
    report: Report | None


def feature_name(field: str, tower: Tower, *, views: int, languages: Sequence[str]) -> str:
    """Name of cached vectors: field, encoder, hash of all that determines them, views or languages.

    Args:
        field: Field of the table.
        tower: Tower with the encoder.
        views: Number of views, for images and videos.
        languages: Languages, for texts and speech; empty: all.
    """
    if field in ("image", "video"):
        kind = f"views-{views}"
    else:
        kind = "-".join(asked_of(field, languages)) or "all"
    return f"{field}:{tower.config.encoder}:{tower.encoder_fingerprint()}:{kind}"


def cache_features(
    table: Table,
    field: str,
    tower: Tower,
    *,
    views: int = 1,
    languages: Sequence[str] = (),
    batch_size: int = 32,
    threads: int = 2,
    progress: Progress = quiet,
) -> Cached:
    """Encode the rows of a field that have no vectors yet.

    Args:
        table: Table to read and write.
        field: Field to encode.
        tower: Tower with a frozen encoder, in evaluation mode.
        views: Number of views of an image: the image itself, then views - 1 crops.
        languages: Languages of texts and speech; empty: all.
        batch_size: Items per forward pass.
        threads: Number of decoding threads.
        progress: Called after each group of rows.
    """
    num_views = views if field in ("image", "video") else 1

    def prepare(sample: Sample) -> list[np.ndarray]:
        opened = list(open_items(sample, field, tuple(languages), tower.target_px))
        return [tower.prepare(item, view) for item in opened for view in range(num_views)]

    run = _Runner(tower, batch_size)
    name = feature_name(field, tower, views=views, languages=languages)
    what = f"{field} features by {tower.config.encoder}"
    num_rows, failures = fill_features(
        table,
        name,
        field,
        prepare,
        run,
        rows_at_once=max(1, ITEMS_AT_ONCE // num_views),
        threads=threads,
        progress=lambda done, total, _: progress(done, total, what + run.backend),
    )
    return Cached(name, num_rows, failures, run.report)


def fill_features(
    table: Table,
    name: str,
    field: str,
    prepare: Callable[[Sample], list[np.ndarray]],
    run: Callable[[list[list[np.ndarray]], int], list[Float32[np.ndarray, "_ D"]]],
    *,
    rows_at_once: int = ITEMS_AT_ONCE,
    threads: int = 1,
    progress: Progress = quiet,
) -> tuple[int, list[tuple[int, str]]]:
    """Compute and store the vectors of all rows that have none of this name.

    Args:
        table: Table to read and write.
        name: Name of the vectors; it must hold all that determines a value.
        field: Field of the table that they are computed from.
        prepare: Turns a row into inputs, empty if it has none; raises `MediaError` if it cannot be read.
        run: Turns the inputs of some rows, and the total number of rows, into the vectors of each row.
        rows_at_once: Rows per call of `run`.
        threads: Number of threads that prepare.
        progress: Called after each group of rows.

    Returns:
        The number of rows that were missing, and the rows that could not be read, with the reason.
    """

    def inputs_of(sample: Sample) -> list[np.ndarray] | str:
        try:
            return prepare(sample)
        except MediaError as error:
            return str(error)

    missing = table.features_missing(name, field)
    failures: list[tuple[int, str]] = []
    waiting: list[tuple[int, Float32[np.ndarray, "_ D"]]] = []
    written_at = time.monotonic()
    if len(missing):
        progress(0, len(missing), name)
    with ThreadPoolExecutor(threads) as pool:
        for rows in batched(missing, rows_at_once):
            found = list(pool.map(inputs_of, table.rows(rows, columns=[COLUMN_OF[field]])))
            pairs = list(zip(rows.tolist(), found, strict=True))
            failures += [(row, one) for row, one in pairs if isinstance(one, str)]
            items = [[] if isinstance(one, str) else one for one in found]
            waiting += zip(rows.tolist(), run(items, len(missing)), strict=True)
            if time.monotonic() - written_at > SECONDS_BETWEEN_WRITES or rows[-1] == missing[-1]:
                offsets = np.cumsum([0, *(len(vectors) for _, vectors in waiting)])
                vectors = np.concatenate([one for _, one in waiting])
                table.set_features(name, [row for row, _ in waiting], offsets, vectors)
                waiting, written_at = [], time.monotonic()
            progress(int(np.searchsorted(missing, rows[-1])) + 1, len(missing), name)
    return len(missing), failures


def open_items(
    sample: Sample, field: str, languages: Sequence[str], target_px: int | None
) -> Iterator[Media]:
    """Open a row's image, or its texts or clips in the languages (empty: all); may raise `MediaError`."""
    if field == "text":
        asked = (one for one in sample.texts if is_asked(one.language, field, languages))
        yield from (media.Text(one.text, one.language) for one in asked)
    elif field == "speech":
        clips = [clip for clip in sample.speech if is_asked(clip.language, field, languages)]
        yield from (media.open(clip.data) for clip in clips)
    else:
        data = {"image": sample.image, "audio": sample.audio, "video": sample.video}[field]
        if data is not None:
            yield media.open(data, target_px=target_px)


@torch.no_grad()
def encode_items(
    tower: Tower,
    items: Sequence[np.ndarray],
    batch_size: int = 32,
    encoder: Callable[[Padded], Tokens] | None = None,
) -> Float32[np.ndarray, "n D"]:
    """Pooled vectors of unpadded inputs, batched by length; `encoder` may replace the tower's own."""
    encoder = tower.encoder if encoder is None else encoder
    vectors = np.zeros((len(items), tower.encoder.dim), dtype=np.float32)
    by_length = sorted(range(len(items)), key=lambda number: len(items[number]))
    for start in range(0, len(by_length), batch_size):
        chunk = by_length[start : start + batch_size]
        inputs = pad([items[number] for number in chunk]).to(tower.device)
        vectors[chunk] = tower.pool(encoder(inputs)).float().cpu().numpy()
    return vectors


class _Runner:
    """Runs a frozen encoder, in long runs with the fastest backend; see `fill_features` for the call."""

    def __init__(self, tower: Tower, batch_size: int) -> None:
        self.report: Report | None = None
        self._tower = tower
        self._batch_size = batch_size
        self._encoder: Callable[[Padded], Tokens] | None = None

    @property
    def backend(self) -> str:
        """The chosen backend and its rate, for a progress line."""
        if self.report is None:
            return ""
        timing = next(one for one in self.report.timings if one.backend == self.report.chosen)
        eager = self.report.timings[0].samples_per_s
        rates = f"{timing.samples_per_s:.0f}/s, eager {eager:.0f}/s, error {timing.error:.0e}"
        return f" through {timing.backend} ({rates})"

    def __call__(self, items: list[list[np.ndarray]], num_rows: int) -> list[Float32[np.ndarray, "_ D"]]:
        flat = [item for row in items for item in row]
        if self._encoder is None and flat:
            self._choose(flat, len(flat) * num_rows / len(items))
        vectors = encode_items(self._tower, flat, self._batch_size, self._encoder)
        return np.split(vectors, np.cumsum([len(row) for row in items])[:-1])

    def _choose(self, flat: Sequence[np.ndarray], num_items: float) -> None:
        """Time a few items; if the whole run would be long, time all backends and choose the fastest."""
        self._encoder = self._tower.encoder
        sample = flat[: max(1, self._batch_size // 4)]
        started = time.perf_counter()
        encode_items(self._tower, sample, self._batch_size)
        if (time.perf_counter() - started) / len(sample) * num_items > WORTH_A_PROBE_S:
            example = pad(flat[: self._batch_size]).to(self._tower.device)
            self._encoder, self.report = probe(self._tower.encoder, example, num_rounds=2)


def batched(rows: Int64[np.ndarray, " n"], size: int) -> Iterator[Int64[np.ndarray, " m"]]:
    """Cut `rows` into pieces of at most `size`."""
    yield from (rows[start : start + size] for start in range(0, len(rows), size))
