"""Sizes, durations and perceptual hashes of a table's rows: as stored, or measured now if missing.

Input: a table. Output: `Measures`. `prepare` stores these values; tables from other writers may lack them.
Nothing is written back, since rows never change. `with_measures` fills them in before samples are stored.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float64, Int64

from sensorium import media
from sensorium.core.errors import MediaError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.curation.phash import perceptual_hash
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table

T = TypeVar("T")
_CHUNK = 64
_HASH_PX = 64
_COLOUR_PX = 16
_MEASURED = ("width_px", "height_px", "duration_s", "phash")


@dataclass(frozen=True)
class Measures:
    """Measurements of each row.

    Attributes:
        width_px: Width of the image or video, (n,); 0 if there is none or it cannot be read.
        height_px: Height, likewise.
        duration_s: Duration of the audio or video, (n,); NaN if there is none.
        phash: Perceptual hash of the image, (n,).
        has_hash: Whether a row's image has a hash, (n,); a flat image has none.
    """

    width_px: Int64[np.ndarray, " n"]
    height_px: Int64[np.ndarray, " n"]
    duration_s: Float64[np.ndarray, " n"]
    phash: Int64[np.ndarray, " n"]
    has_hash: Bool[np.ndarray, " n"]


def measure_rows(table: Table, *, hashes: bool = False, progress: Progress = quiet) -> Measures:
    """Read the stored measurements of all rows and compute missing ones.

    Args:
        table: The table.
        hashes: Also compute missing hashes, which decodes the images.
        progress: Reports the number of rows measured.
    """
    width, height = (np.maximum(table.column(name), 0).astype(np.int64) for name in ("width_px", "height_px"))
    seconds = np.array(table.column("duration_s"), dtype=np.float64)
    phash = np.array(table.column("phash"), dtype=np.int64)
    has_hash = np.zeros(len(table), dtype=bool)
    has_hash[table.where("phash IS NOT NULL")] = True
    holds = {
        name: np.asarray(table.column(f"has_{name}"), dtype=bool) for name in ("image", "audio", "video")
    }
    is_unsized = (holds["image"] | holds["video"]) & (width == 0)
    is_untimed = (holds["audio"] | holds["video"]) & np.isnan(seconds)
    lacking = np.flatnonzero(is_unsized | is_untimed)
    measured = _map_rows(
        table, lacking, ["uri", "image", "audio", "video"], lambda sample: measure(sample, hashes=hashes)
    )
    for done, (row, found) in enumerate(zip(lacking.tolist(), measured, strict=True), start=1):
        width[row], height[row] = found.width_px or width[row], found.height_px or height[row]
        seconds[row] = seconds[row] if found.duration_s is None else found.duration_s
        if found.phash is not None:
            phash[row], has_hash[row] = found.phash, True
        progress(done, len(lacking), "measuring")
    return Measures(width, height, seconds, phash, has_hash)


def measure(sample: Sample, *, hashes: bool = True) -> Sample:
    """Return a sample without bytes that holds the measurements; damaged media are skipped."""
    width = height = phash = duration = None
    for name, data in (("video", sample.video), ("audio", sample.audio), ("image", sample.image)):
        if data is None:
            continue
        try:
            header = media.probe(data)
            width, height = header.width_px or width, header.height_px or height
            duration = duration if header.duration_s is None or name == "image" else header.duration_s
            opened = media.open(data, target_px=_HASH_PX) if hashes and name == "image" else None
        except MediaError:
            continue
        phash = perceptual_hash(opened.pixels) if isinstance(opened, media.Image) else None
    return Sample(sample.uri, width_px=width, height_px=height, duration_s=duration, phash=phash)


def with_measures(samples: Iterable[Sample], known: Collection[str] = ()) -> Iterator[Sample]:
    """Fill in sizes, durations and hashes of samples that have none, on up to 8 threads.

    Args:
        samples: Samples with their media.
        known: Content ids of samples to pass on unchanged.
    """

    def fill(sample: Sample) -> Sample:
        if sample.width_px or sample.duration_s or sample.id in known:
            return sample
        found = measure(sample)
        return dataclasses.replace(sample, **{name: getattr(found, name) for name in _MEASURED})

    source = iter(samples)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as threads:
        while chunk := list(islice(source, _CHUNK)):
            yield from threads.map(fill, chunk)


def colour_distance(table: Table, pairs: Int64[np.ndarray, "p 2"]) -> Float64[np.ndarray, " p"]:
    """Mean absolute difference of colours (0 to 255) of pairs of images, resized to 16 x 16 pixels.

    A perceptual hash ignores colour; this separates a yellow heart from a pink one. The distance to an
    unreadable image is infinite.
    """
    numbers, inverse = np.unique(pairs, return_inverse=True)
    thumbnails = np.full((len(numbers), _COLOUR_PX, _COLOUR_PX, 3), np.nan, dtype=np.float32)
    for index, thumbnail in enumerate(_map_rows(table, numbers, ["image"], _thumbnail)):
        thumbnails[index] = thumbnail
    left, right = inverse.reshape(pairs.shape).T
    means = [np.abs(thumbnails[a] - thumbnails[b]).mean() for a, b in zip(left, right, strict=True)]
    distance = np.array(means, dtype=np.float64)
    return np.where(np.isnan(distance), np.inf, distance)


def _thumbnail(sample: Sample) -> np.ndarray | float:
    try:
        opened = media.open(sample.image or b"", target_px=_COLOUR_PX)
    except MediaError:
        return float("nan")
    if not isinstance(opened, media.Image):
        return float("nan")
    size = (_COLOUR_PX, _COLOUR_PX)
    return np.asarray(opened.to_pillow().resize(size, PIL.Image.Resampling.BOX), dtype=np.float32)


def _map_rows(
    table: Table, rows: Int64[np.ndarray, " k"], columns: Sequence[str], function: Callable[[Sample], T]
) -> Iterator[T]:
    """`function` of each row's sample, in order, on up to 8 threads."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as threads:
        for start in range(0, len(rows), _CHUNK):
            yield from threads.map(function, table.rows(rows[start : start + _CHUNK], columns))
