"""Sizes, lengths and perceptual hashes of a table's rows: as stored, or measured now where a row has none.

In: a table. Out: `Measures`. `prepare` stores what it measures; tables from other hands may lack it. Nothing
is written back, since rows never change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sensorium import media
from sensorium.core.errors import MediaError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.phash import perceptual_hash
from sensorium.data.sample import Sample
from sensorium.data.table import Table

_CHUNK = 64
_HASH_PX = 64


@dataclass(frozen=True)
class Measures:
    """What is known of each row.

    Attributes:
        width_px: Of the image or video, (n,); 0 where there is none or it cannot be read.
        height_px: The same.
        duration_s: Of the sound or video, (n,); NaN where there is none.
        phash: Perceptual hash of the image, (n,).
        has_hash: Rows whose image has one: a flat image has none.
    """

    width_px: Int64[np.ndarray, " n"]
    height_px: Int64[np.ndarray, " n"]
    duration_s: Float64[np.ndarray, " n"]
    phash: Int64[np.ndarray, " n"]
    has_hash: Bool[np.ndarray, " n"]


def measure_rows(table: Table, *, hashes: bool = False, progress: Progress = quiet) -> Measures:
    """Read the measures of all rows, and take those that are missing.

    Args:
        table: The rows.
        hashes: Whether missing hashes are computed too, which decodes the images.
        progress: Told how many rows were measured.
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
    for done, (row, found) in enumerate(_measure(table, lacking, hashes), start=1):
        width[row], height[row] = found.width_px or width[row], found.height_px or height[row]
        seconds[row] = seconds[row] if found.duration_s is None else found.duration_s
        if found.phash is not None:
            phash[row], has_hash[row] = found.phash, True
        progress(done, len(lacking), "measuring")
    return Measures(width, height, seconds, phash, has_hash)


def measure(sample: Sample, *, hashes: bool = True) -> Sample:
    """Return a sample without bytes that holds what was measured of those given; damaged media give nothing."""
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


def _measure(table: Table, rows: Int64[np.ndarray, " k"], hashes: bool) -> Iterator[tuple[int, Sample]]:
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as threads:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            samples = table.rows(chunk, columns=["uri", "image", "audio", "video"])
            found = threads.map(lambda sample: measure(sample, hashes=hashes), samples)
            yield from zip(chunk.tolist(), found, strict=True)
