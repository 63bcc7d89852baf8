"""A recording, video or table of numbers as a series of vectors with times: what two of them are compared by.

In: a file. Out: vectors and the moment of each. Sound becomes normalised cepstra and level, 50 a second; a
moving picture becomes each frame at 16 x 12 pixels, colours and all, at the frame's own time; numbers
(`.npy`, or `.csv` with a column a variable) are brought to mean 0 and spread 1, and their time is their
place. Series longer than `MOST_STEPS` are thinned evenly, so that a pair of hours is aligned in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64

from sensorium.core.errors import MediaError, NotFoundError, UsageError

By = Literal["auto", "sound", "picture"]
Kind = Literal["sound", "picture", "numbers"]

MOST_STEPS = 20_000
_FRAME_SIZE = (16, 12)
_NUMBERS = (".npy", ".csv", ".tsv")
_LEVEL_SPREAD_DB = 20.0


@dataclass(frozen=True, eq=False)
class TimedSeries:
    """A series of vectors.

    Attributes:
        values: (n, D).
        times_s: When each is, ascending; for numbers, its place.
        duration_s: When the last one ends.
        kind: What the vectors describe.
        path: Where it came from.
    """

    values: Float32[np.ndarray, "n D"]
    times_s: Float64[np.ndarray, " n"]
    duration_s: float
    kind: Kind
    path: Path


def which_by(name: str) -> By:
    """Check a name given as text.

    Raises:
        UsageError: If it is none of `By`.
    """
    for known in get_args(By):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"by '{name}': expected one of {', '.join(get_args(By))}")


def read_pair(a: Path, b: Path, by: By = "auto") -> tuple[TimedSeries, TimedSeries]:
    """Read two files as series of one kind.

    Args:
        a: A sound, a video, or numbers.
        b: The same.
        by: Compare videos by their `sound` or `picture`; auto: picture if both have one, else sound.

    Raises:
        NotFoundError: If a file is not there.
        MediaError: If a file has no sound or picture to compare.
        UsageError: If one holds numbers and the other does not.
    """
    kinds = [_kind_of(path) for path in (a, b)]
    if ("numbers" in kinds) and kinds[0] != kinds[1]:
        raise UsageError(f"{a.name} is {kinds[0]} and {b.name} {kinds[1]}; expected two of a kind")
    if kinds[0] == "numbers":
        first, second = read_numbers(a), read_numbers(b)
        if first.values.shape[1] != second.values.shape[1]:
            widths = f"{first.values.shape[1]} and {second.values.shape[1]}"
            raise UsageError(f"{a.name} and {b.name} have {widths} columns; expected as many in both")
        return first, second
    is_picture = by == "picture" or (by == "auto" and kinds == ["picture", "picture"])
    read = read_picture if is_picture else read_sound
    return read(a), read(b)


def read_sound(path: Path) -> TimedSeries:
    """Cepstra and level of a sound or of a video's sound track, 50 a second or fewer."""
    from sensorium.align.cepstra import FRAMES_A_SECOND, cepstra, listen, silence
    from sensorium.media.audio_blocks import audio_blocks

    try:
        heard = listen(audio_blocks(path))
    except UsageError as error:
        raise MediaError(f"{path}: {error}") from error
    active = silence(heard.level_db) < 0.5
    if not active.any():
        raise MediaError(f"{path}: silent; nothing to align")
    level = (heard.level_db - heard.level_db[active].mean()) / _LEVEL_SPREAD_DB
    values = np.concatenate([cepstra(heard.mels, active), np.maximum(level, -2)[:, None]], axis=1)
    times_s = np.arange(len(values)) / FRAMES_A_SECOND
    return _thinned(values, times_s, len(values) / FRAMES_A_SECOND, "sound", path)


def read_picture(path: Path) -> TimedSeries:
    """Colours of each frame of a video or animation at 16 x 12 pixels."""
    from sensorium.media import Limits, Video
    from sensorium.media import open as open_media
    from sensorium.media.frames import frames

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


def read_numbers(path: Path) -> TimedSeries:
    """Columns of a table of numbers, each brought to mean 0 and spread 1.

    Raises:
        UsageError: If it is not a table of finite numbers.
    """
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            lines = path.read_text("utf-8").replace(";", ",").replace("\t", ",").splitlines()
            rows = [line.split(",") for line in lines if line.strip()]
            values = np.array(rows[1:] if rows and not _is_number(rows[0][0]) else rows, dtype=np.float64)
        values = np.asarray(values, np.float64)
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}; check the path") from error
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise UsageError(f"{path}: {str(error)[:120]}; expected a table of numbers") from error
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        raise UsageError(f"{path}: {values.shape}; expected (n,) or (n, D) finite numbers")
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return _thinned(scaled, np.arange(len(scaled)), float(len(scaled)), "numbers", path)


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
    from sensorium.media import Limits, probe

    if path.suffix.lower() in _NUMBERS:
        return "numbers"
    kind = probe(path, limits=Limits(file_bytes=1 << 36, seconds=24 * 3600, frames=20_000_000)).kind
    if kind not in ("audio", "video"):
        raise MediaError(f"{path}: {kind}; expected a sound, a video, or numbers in .csv or .npy")
    return "sound" if kind == "audio" else "picture"


def _is_container(path: Path) -> bool:
    from sensorium.media.sniff import sniff

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
