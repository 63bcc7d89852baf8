"""Divides a video into chapters and serializes them as WebVTT, FFmetadata, JSON or EDL.

Chapters begin at the cuts nearest to the change points of the frame features. Kernel temporal segmentation
(`kts`) finds these: its segments minimise the scatter of the vectors about their means, exactly, by dynamic
programming, and a penalty selects their number. JSON follows Podcasting 2.0, the edit decision list CMX 3600.
Titles come from `captions`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64, Int64

from sensorium.core.errors import UsageError
from sensorium.video.features import VideoFeatures

_MOST_ROWS = 600
_MOST_CHAPTERS = 24
_SHORTEST_S = 12.0
_SHORTEST_SHARE = 0.04
_PENALTY = 0.5


@dataclass(frozen=True)
class Chapter:
    """A part of a video: where it begins, where the next begins or the video ends, and a title."""

    start_s: int | float
    end_s: int | float
    title: str = ""


def find_chapters(features: VideoFeatures) -> list[Chapter]:
    """Divide a video at cuts; a video without a change is one chapter.

    A chapter lasts at least 12 seconds or 4 % of the video.
    """
    shortest_s = max(_SHORTEST_S, features.duration_s * _SHORTEST_SHARE)
    cuts = np.array([shot.start_s for shot in features.shots[1:]])
    most = min(_MOST_CHAPTERS - 1, int(features.duration_s / shortest_s) - 1)
    if most < 1 or len(cuts) == 0:
        return [Chapter(0.0, features.duration_s)]
    rows, times_s = _thinned(features)
    changes = kts(rows, max_changes=most, penalty=_PENALTY)
    edges = [0.0]
    for change_s in times_s[changes].tolist():
        cut = float(cuts[np.argmin(np.abs(cuts - change_s))])
        if cut - edges[-1] >= shortest_s and features.duration_s - cut >= shortest_s:
            edges.append(cut)
    return [Chapter(a, b) for a, b in pairwise([*edges, features.duration_s])]


def titled(chapters: Sequence[Chapter], titles: Sequence[str]) -> list[Chapter]:
    """Add titles to chapters; an empty title becomes `Chapter 3`."""
    return [
        replace(chapter, title=" ".join(title.split()) or f"Chapter {number}")
        for number, (chapter, title) in enumerate(zip(chapters, titles, strict=True), start=1)
    ]


def to_webvtt(chapters: Sequence[Chapter]) -> str:
    """Serialize chapters as WebVTT, for `<track kind="chapters">`.

    Reference:
        W3C WebVTT, section 2.4: a cue's text holds no arrow, and `&` and `<` are escaped.

    Example:
        >>> print(to_webvtt([Chapter(0, 61.5, "A & B")]))
        WEBVTT
        <BLANKLINE>
        1
        00:00:00.000 --> 00:01:01.500
        A &amp; B
        <BLANKLINE>
    """
    parts = ["WEBVTT\n"]
    for number, chapter in enumerate(chapters, start=1):
        title = chapter.title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        start, end = (clock(time_s, 3) for time_s in (chapter.start_s, chapter.end_s))
        parts.append(f"{number}\n{start} --> {end}\n{title}\n")
    return "\n".join(parts)


def to_ffmetadata(chapters: Sequence[Chapter], title: str) -> str:
    """Serialize chapters as FFmetadata.

    `ffmpeg -i film.mp4 -i chapters.ffmeta -map_metadata 1 -codec copy out.mp4` writes them into a video.
    """
    lines = [";FFMETADATA1", f"title={_escaped(title)}"]
    for chapter in chapters:
        start, end = round(chapter.start_s * 1000), round(chapter.end_s * 1000)
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}"]
        lines += [f"title={_escaped(chapter.title)}"]
    return "\n".join(lines) + "\n"


def to_json(chapters: Sequence[Chapter], title: str) -> str:
    """Serialize chapters as JSON.

    Reference:
        Podcasting 2.0, JSON chapters 1.2.
    """
    listed = [
        {"startTime": round(one.start_s, 3), "endTime": round(one.end_s, 3), "title": one.title}
        for one in chapters
    ]
    return json.dumps({"version": "1.2.0", "title": title, "chapters": listed}, ensure_ascii=False, indent=1)


def to_edl(spans: Sequence[Chapter], title: str, frame_rate_hz: float, file_name: str) -> str:
    """Serialize time spans as an edit decision list (CMX 3600) that plays them one after another.

    Times are rounded to frames of the nearest integer rate, in non-drop-frame timecode.

    Example:
        >>> print(to_edl([Chapter(2, 3.5, "frog")], "film", 25.0, "film.mp4").splitlines()[3])
        001  AX       B     C        00:00:02:00 00:00:03:13 00:00:00:00 00:00:01:13
    """
    rate = max(1, min(99, round(frame_rate_hz)))
    lines, position = [f"TITLE: {_ascii(title)}", "FCM: NON-DROP FRAME", ""], 0
    for number, span in enumerate(spans, start=1):
        start, end = (int(time_s * rate + 0.5) for time_s in (span.start_s, span.end_s))
        end = max(end, start + 1)
        codes = (_timecode(at, rate) for at in (start, end, position, position + end - start))
        lines.append(f"{number:03d}  AX       B     C        {' '.join(codes)}")
        lines += [f"* FROM CLIP NAME: {_ascii(file_name)}", f"* COMMENT: {_ascii(span.title)}"]
        position += end - start
    return "\n".join(lines) + "\n"


def clock(time_s: int | float, places: int = 0) -> str:
    """Format seconds as `1:02:03`, or with `places` decimals as `01:02:03.500`.

    Example:
        >>> clock(62), clock(3723.5), clock(62, 3)
        ('1:02', '1:02:04', '00:01:02.000')
    """
    ticks = int(time_s * 10**places + 0.5)
    seconds, fraction = divmod(ticks, 10**places)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    if places:
        return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{fraction:0{places}d}"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def kts(
    features: Float[np.ndarray, "n D"],
    *,
    max_changes: int,
    penalty: float = 1.0,
    num_changes: int | None = None,
) -> Int64[np.ndarray, " changes"]:
    """Segment a sequence with the linear kernel.

    Minimises sum of scatter over segments / n + penalty * m / (2 n) * (log(n / m) + 1) over the number of
    changes m and their places.

    Args:
        features: (n, D); rows of length 1 make the kernel the cosine.
        max_changes: Most changes; at most n - 1 are used.
        penalty: Larger gives fewer segments (`vmax` of the reference code).
        num_changes: Exact number of changes; the penalty is then ignored.

    Returns:
        Ascending: at which rows a new segment begins (0 is not among them).

    Raises:
        UsageError: If there is no row, or fewer rows than changes asked for.

    Reference:
        D. Potapov et al., Category-specific video summarization, ECCV 2014, section 3.2. O(max_changes n^2)
        time, O(n^2) memory.

    Example:
        >>> features = np.repeat(np.eye(3), [4, 2, 5], axis=0)
        >>> kts(features, max_changes=5, penalty=0.1).tolist()
        [4, 6]
    """
    n = len(features)
    if n == 0 or (num_changes is not None and not 0 <= num_changes < n):
        raise UsageError(f"{num_changes} changes in {n} rows; expected at least one row more than changes")
    most = min(max_changes if num_changes is None else num_changes, n - 1)
    costs, cuts = _best_costs(_scatters(features), most)
    if num_changes is None:
        m = np.arange(1, most + 1)
        penalties = np.concatenate([[0.0], penalty * m / (2 * n) * (np.log(n / m) + 1)])
        num_changes = int(np.argmin(costs[:, n] / n + penalties))
    changes: list[int] = []
    end = n
    for m_left in range(num_changes, 0, -1):
        end = int(cuts[m_left, end])
        changes.append(end)
    return np.array(changes[::-1], np.int64)


def _scatters(features: Float[np.ndarray, "n D"]) -> Float64[np.ndarray, "k k"]:
    """Entry (i, j): sum of squared distances of rows i..j-1 from their mean; infinite where i >= j."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    sums = np.concatenate([np.zeros((1, features.shape[1])), np.cumsum(centred, axis=0)])
    squares = np.concatenate([[0.0], np.cumsum((centred**2).sum(axis=1))])
    gram = sums @ sums.T
    norms = np.diag(gram)
    lengths = np.arange(len(sums))[None] - np.arange(len(sums))[:, None]
    of_sums = norms[:, None] + norms[None] - 2 * gram
    scatter = (squares[None] - squares[:, None]) - of_sums / np.maximum(lengths, 1)
    return np.where(lengths > 0, np.maximum(scatter, 0.0), np.inf)


def _best_costs(
    scatter: Float64[np.ndarray, "k k"], most: int
) -> tuple[Float64[np.ndarray, "m k"], Int64[np.ndarray, "m k"]]:
    """Least total scatter of the first rows with m changes, and where the last change is."""
    costs = np.full((most + 1, len(scatter)), np.inf)
    cuts = np.zeros((most + 1, len(scatter)), np.int64)
    costs[0] = scatter[0]
    for m in range(1, most + 1):
        totals = costs[m - 1][:, None] + scatter
        cuts[m] = np.argmin(totals, axis=0)
        costs[m] = totals[cuts[m], np.arange(len(scatter))]
    return costs, cuts


def _thinned(features: VideoFeatures) -> tuple[Float64[np.ndarray, "n D"], Float64[np.ndarray, " n"]]:
    """Unit frame features at even times, at most `_MOST_ROWS`, so that their Gram matrix is small."""
    count = min(len(features.times_s), _MOST_ROWS)
    groups = np.array_split(np.arange(len(features.times_s)), count)
    rows = np.stack([features.vectors[group].mean(axis=0, dtype=np.float64) for group in groups])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return rows, features.times_s[[group[0] for group in groups]]


def _escaped(text: str) -> str:
    """Escape `=`, `;`, `#` and backslash for FFmetadata, and remove line breaks."""
    return re.sub(r"([=;#\\])", r"\\\1", " ".join(text.split()))


def _ascii(text: str) -> str:
    return " ".join(text.split()).encode("ascii", "replace").decode()


def _timecode(frame: int, rate: int) -> str:
    seconds, frames = divmod(frame, rate)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}"
