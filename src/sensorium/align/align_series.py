"""Aligns two recordings, videos or tables of numbers in time by exact DTW.

Input: two files with the same content at different paces. Output: for each moment of A the moment of B, with
a confidence. Files are compared as series of vectors with times:

- Sound: normalised MFCCs and level, 50 a second.
- Video: each frame at 16 x 12 RGB pixels, at its own time.
- Numbers (`.npy`, or `.csv` with one variable a column): standardised, with the row index as time. Columns of
  two tables are paired by name if both have names, else by position.

Longer series are thinned evenly to `MOST_STEPS`.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64

from sensorium.align.mfcc import FRAMES_A_SECOND, audio_features, mfcc, silence
from sensorium.core.errors import MediaError, NotFoundError, UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.dtw.warping import Alignment, dtw
from sensorium.media import Limits, Video, probe
from sensorium.media import open as open_media
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.frames import frames
from sensorium.media.sniff import sniff

By = Literal["auto", "sound", "picture"]
Kind = Literal["sound", "picture", "numbers"]

MOST_STEPS = 20_000
_FRAME_SIZE = (16, 12)
_NUMBERS = (".npy", ".csv", ".tsv")
_LEVEL_SPREAD_DB = 20.0
_METRIC = {"sound": "cosine", "picture": "euclidean", "numbers": "euclidean"}
_SMOOTH_S = 0.5


@dataclass(frozen=True, eq=False)
class TimedSeries:
    """A series of vectors.

    Attributes:
        values: (n, D).
        times_s: Time of each vector, ascending; for numbers, the row index.
        duration_s: When the last one ends.
        kind: Of the source.
        path: The file.
        columns: Names of the columns of numbers, if they have names.
        unpaired: Names of ignored columns, which the other file lacks.
    """

    values: Float32[np.ndarray, "n D"]
    times_s: Float64[np.ndarray, " n"]
    duration_s: float
    kind: Kind
    path: Path
    columns: tuple[str, ...] = ()
    unpaired: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SeriesAlignment:
    """Two series on one timeline; times of `a` are the reference."""

    a: TimedSeries
    b: TimedSeries
    alignment: Alignment

    @cached_property
    def times_b_s(self) -> Float64[np.ndarray, " n"]:
        """Time in B of each `a.times_s`: the mean over its pairs, made monotone."""
        places = self.alignment.places()
        times_s = np.interp(places, np.arange(len(self.b.times_s)), self.b.times_s)
        return np.maximum.accumulate(times_s)

    @cached_property
    def confidence(self) -> Float64[np.ndarray, " n"]:
        """For each moment of A, 0 to 1 (see `Alignment.confidence`)."""
        path = self.alignment.path
        assert path is not None, "the path was asked for"
        counts = np.bincount(path[:, 0], minlength=len(self.a.times_s))
        sums = np.bincount(path[:, 0], weights=self.alignment.confidence, minlength=len(self.a.times_s))
        return sums / np.maximum(counts, 1)

    def clock(self) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """Knots of a smooth map from times of A to times of B.

        The path is averaged over half a second; its ends are fixed.
        """
        step_s = max(float(np.median(np.diff(self.a.times_s))) if len(self.a.times_s) > 1 else 1.0, 1e-6)
        width = max(1, round(_SMOOTH_S / step_s)) if self.a.kind != "numbers" else 1
        reach = min(width // 2, (len(self.a.times_s) - 1) // 2)
        kernel = np.full(2 * reach + 1, 1 / (2 * reach + 1))
        smooth = [
            np.convolve(np.pad(times, reach, mode="reflect", reflect_type="odd"), kernel, mode="valid")
            for times in (self.a.times_s, self.times_b_s)
        ]
        return smooth[0], np.maximum.accumulate(np.clip(smooth[1], 0, self.b.duration_s))

    @property
    def unpaired(self) -> str:
        """Names of ignored columns in one line; empty if there are none."""
        sides = [f"{one.path.name}: {', '.join(one.unpaired)}" for one in (self.a, self.b) if one.unpaired]
        return "; ".join(sides)

    def report(self) -> dict[str, object]:
        """The alignment as plain values for JSON: files, distance, confidence, and pairs of times."""
        path = self.alignment.path
        assert path is not None, "the path was asked for"
        rows = zip(self.a.times_s.tolist(), self.times_b_s.tolist(), self.confidence.tolist(), strict=True)
        columns = {"columns": list(self.a.columns)} if self.a.columns and self.b.columns else {}
        return {
            "kind": self.a.kind,
            **columns,
            "a": {"path": str(self.a.path), "duration_s": round(self.a.duration_s, 3)},
            "b": {"path": str(self.b.path), "duration_s": round(self.b.duration_s, 3)},
            **({"not_paired": self.unpaired} if self.unpaired else {}),
            "distance": self.alignment.distance,
            "distance_a_pair": self.alignment.distance / len(path),
            "confidence": round(float(self.confidence.mean()), 4),
            "path": [[round(a_s, 4), round(b_s, 4), round(sure, 3)] for a_s, b_s, sure in rows],
        }


def align_series(
    a: Path,
    b: Path,
    *,
    by: By = "auto",
    open_begin: bool = False,
    open_end: bool = False,
    progress: Progress = quiet,
) -> SeriesAlignment:
    """Align two recordings, videos or tables of numbers; times of `a` are the reference.

    Args:
        a: The reference.
        b: The other file.
        by: Compare videos by `sound` or `picture`; auto: by picture if both have one.
        open_begin: A may begin anywhere in B.
        open_end: A may end anywhere in B.
        progress: Reports the current step.

    Raises:
        NotFoundError: If a file is not there.
        MediaError: If a file does not decode, or lacks the sound or picture to compare.
        UsageError: If the files are of different kinds.
    """
    progress(0, None, f"reading {a.name} and {b.name}")
    first, second = read_pair(a, b, by)
    progress(0, None, f"aligning {len(first.times_s):,} by {len(second.times_s):,} steps")
    alignment = dtw(
        first.values, second.values, metric=_METRIC[first.kind], open_begin=open_begin, open_end=open_end
    )
    return SeriesAlignment(first, second, alignment)


@dataclass(frozen=True)
class _Cells:
    """Cells of a table of numbers, and its header."""

    path: Path
    rows: list[list[str]] | np.ndarray
    names: tuple[str, ...] = ()


def which_by(name: str) -> By:
    """Parse a value of `By`; UsageError if it is none."""
    for known in get_args(By):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"by '{name}': expected one of {', '.join(get_args(By))}")


def read_pair(a: Path, b: Path, by: By = "auto") -> tuple[TimedSeries, TimedSeries]:
    """Read two sounds, videos or tables of numbers as series of one kind; videos as in `align_series`.

    Raises:
        NotFoundError: If a file is not there.
        MediaError: If a file has no sound or picture to compare.
        UsageError: If one holds numbers and the other does not, or their columns do not pair.
    """
    kinds = [_kind_of(path) for path in (a, b)]
    if ("numbers" in kinds) and kinds[0] != kinds[1]:
        raise UsageError(f"{a.name} is {kinds[0]} and {b.name} {kinds[1]}; expected two of a kind")
    if kinds[0] == "numbers":
        return _paired(_cells(a), _cells(b))
    is_picture = by == "picture" or (by == "auto" and kinds == ["picture", "picture"])
    read = read_picture if is_picture else read_sound
    return read(a), read(b)


def read_sound(path: Path) -> TimedSeries:
    """MFCCs and level of a sound or of a video's sound track, 50 a second or fewer."""
    try:
        features = audio_features(audio_blocks(path))
    except UsageError as error:
        raise MediaError(f"{path}: {error}") from error
    active = silence(features.level_db) < 0.5
    if not active.any():
        raise MediaError(f"{path}: silent; nothing to align")
    level = (features.level_db - features.level_db[active].mean()) / _LEVEL_SPREAD_DB
    values = np.concatenate([mfcc(features.mels, active), np.maximum(level, -2)[:, None]], axis=1)
    times_s = np.arange(len(values)) / FRAMES_A_SECOND
    return _thinned(values, times_s, len(values) / FRAMES_A_SECOND, "sound", path)


def read_picture(path: Path) -> TimedSeries:
    """RGB values of each frame of a video or animation at 16 x 12 pixels."""
    if _is_container(path):
        shown = [(frame.pixels, frame.time_s, frame.end_s) for frame in frames(path, size=_FRAME_SIZE)]
        pixels, times, ends = (list(part) for part in zip(*shown, strict=True))
    else:
        video = open_media(path, limits=Limits(video_frames=MOST_STEPS), target_px=64)
        if not isinstance(video, Video):
            raise MediaError(f"{path}: {type(video).__name__.lower()}, not a moving picture")
        pixels, times = [_squeezed(frame) for frame in video.frames], video.times_s.tolist()
        ends = [*times[1:], times[-1] + (times[-1] / max(1, len(times) - 1))]
    values = np.stack(pixels).reshape(len(pixels), -1).astype(np.float32) / 255
    return _thinned(values, np.array(times), float(ends[-1]), "picture", path)


def _paired(a: _Cells, b: _Cells) -> tuple[TimedSeries, TimedSeries]:
    """Pair columns by name in the order of A, or by position where a file has no names."""
    if a.names and b.names:
        common = tuple(name for name in a.names if name in b.names)
        if not common:
            listed = " and ".join(f"{one.path.name} has {', '.join(one.names)}" for one in (a, b))
            raise UsageError(f"no column is in both: {listed}; give the columns to compare the same names")
        return _numbers(a, common), _numbers(b, common)
    first, second = _numbers(a, a.names), _numbers(b, b.names)
    if first.values.shape[1] != second.values.shape[1]:
        widths = f"{first.values.shape[1]} and {second.values.shape[1]}"
        raise UsageError(
            f"{a.path.name} and {b.path.name} have {widths} columns; expected as many, or names, in both"
        )
    return first, second


def _cells(path: Path) -> _Cells:
    """Read the cells of a file as text, or a `.npy` array.

    Raises:
        NotFoundError: If it is not there.
        UsageError: If it is no table, or two of its columns have the same name.
    """
    try:
        if path.suffix.lower() == ".npy":
            return _Cells(path, np.load(path, allow_pickle=False))
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = re.sub('"[^"]*"', "", file.readline())
            delimiter = max("\t;,", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            rows = [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}; check the path") from error
    except (ValueError, TypeError, OSError, EOFError, csv.Error) as error:
        raise UsageError(f"{path}: {str(error)[:120]}; expected a table of numbers") from error
    if not rows or _is_number(rows[0][0]):
        return _Cells(path, rows)
    twice = {name for name in rows[0] if rows[0].count(name) > 1}
    if twice:
        raise UsageError(f"{path}: two columns are called '{min(twice)}'; give each its own name")
    return _Cells(path, rows[1:], tuple(rows[0]))


def _numbers(cells: _Cells, chosen: tuple[str, ...]) -> TimedSeries:
    """The chosen columns, standardised; UsageError if they do not hold finite numbers, one a row."""
    rows, path = cells.rows, cells.path
    if cells.names:
        places = [cells.names.index(name) for name in chosen]
        uneven = [number for number, row in enumerate(rows, start=2) if len(row) != len(cells.names)]
        if uneven:
            raise UsageError(
                f"{path}: row {uneven[0]} has {len(rows[uneven[0] - 2])} cells below {len(cells.names)} "
                "names; expected a table of numbers"
            )
        rows = [[row[place] for place in places] for row in rows]
    try:
        values = np.asarray(rows, np.float64)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: {str(error)[:120]}; expected a table of numbers") from error
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        raise UsageError(f"{path}: {values.shape}; expected (n,) or (n, D) finite numbers")
    unpaired = tuple(name for name in cells.names if name not in chosen)
    found = _thinned(_standardised(values), np.arange(len(values)), float(len(values)), "numbers", path)
    return replace(found, columns=chosen, unpaired=unpaired)


def _standardised(values: Float64[np.ndarray, "n D"]) -> Float64[np.ndarray, "n D"]:
    """Columns of mean 0 and deviation 1; constant columns become 0. Safe for any magnitude."""
    _, exponents = np.frexp(np.abs(values).max(axis=0))
    values = np.ldexp(values, -exponents)
    spread = np.where(values.min(axis=0) < values.max(axis=0), values.std(axis=0), 0)
    centred = values - values.mean(axis=0)
    scaled: Float64[np.ndarray, "n D"] = np.zeros_like(centred)
    np.divide(centred, spread, out=scaled, where=spread > 0)
    return scaled


def _thinned(
    values: np.ndarray, times_s: np.ndarray, duration_s: float, kind: Kind, path: Path
) -> TimedSeries:
    every = -(-len(values) // MOST_STEPS)
    return TimedSeries(
        np.ascontiguousarray(values[::every], np.float32),
        times_s[::every].astype(np.float64),
        duration_s,
        kind,
        path,
    )


def _kind_of(path: Path) -> Kind:
    if path.suffix.lower() in _NUMBERS:
        return "numbers"
    kind = probe(path, limits=Limits(file_bytes=1 << 36, seconds=24 * 3600, frames=20_000_000)).kind
    if kind not in ("audio", "video"):
        raise MediaError(f"{path}: {kind}; expected a sound, a video, or numbers in .csv or .npy")
    return "sound" if kind == "audio" else "picture"


def _is_container(path: Path) -> bool:
    with path.open("rb") as file:
        return sniff(file.read(4096), path.name).reader == "container"


def _squeezed(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize(_FRAME_SIZE, Image.Resampling.BOX))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
