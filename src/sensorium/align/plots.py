"""Plots alignments as PNG: a pair of series, or timed words over the loudness of their recording.

- Series: the cost matrix with the path, both series, and the local tempo. Dark cells are similar moments. The
  tempo below is seconds of B per second of A (2: B is half as fast).
- Words: the colour of a word is its confidence, from orange (0) to blue (1). At most `MOST_ROWS` rows of 10 s
  are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from sensorium.align.align_series import SeriesAlignment, TimedSeries
from sensorium.align.mfcc import FRAMES_A_SECOND, AudioFeatures, audio_features
from sensorium.core.errors import UsageError
from sensorium.core.files import replace_atomic
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.timed_text import TimedWord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELLS = 600
_INK, _QUIET, _PATH = "#1e2430", "#8a8f99", "#ff5a36"
_NOUN = {"sound": "seconds", "picture": "seconds", "numbers": "steps"}
MOST_ROWS = 12
"""Most rows of 10 s in a plot of words."""
_ROW_S = 10.0
_QUIETEST_DB = -60.0
_SOUND = "#aab1bf"
_SURE, _UNSURE = (38, 92, 168), (255, 122, 69)
_WIDTH_A_CHARACTER_S = 0.075


def draw_alignment(found: SeriesAlignment, path: Path) -> None:
    """Plot an alignment; the file is complete or absent. UsageError if `path` does not end in .png."""
    _check_png(path)
    figure = _figure(9, 9.4)
    grid = figure.add_gridspec(
        3,
        2,
        width_ratios=(1, 9),
        height_ratios=(9, 1, 1.5),
        hspace=0.09,
        wspace=0.04,
        left=0.09,
        right=0.96,
        top=0.92,
        bottom=0.07,
    )
    middle = figure.add_subplot(grid[0, 1])
    _draw_costs(middle, found)
    _draw_profile(figure.add_subplot(grid[0, 0], sharey=middle), found.b, is_upright=True)
    _draw_profile(figure.add_subplot(grid[1, 1], sharex=middle), found.a, is_upright=False)
    _draw_pace(figure.add_subplot(grid[2, 1], sharex=middle), found)
    names = f"{found.a.path.name}  →  {found.b.path.name}"
    figure.text(0.09, 0.965, names, fontsize=14, color=_INK, weight="bold")
    told = f"aligned by {found.a.kind} · confidence {found.confidence.mean():.2f}"
    figure.text(0.09, 0.94, told, fontsize=10, color=_QUIET)
    replace_atomic(path, lambda temporary: figure.savefig(temporary, format="png"))


def _draw_costs(axes: Axes, found: SeriesAlignment) -> None:
    rows, columns = (_spread(len(series.times_s)) for series in (found.a, found.b))
    a, b = found.a.values[rows].astype(np.float64), found.b.values[columns].astype(np.float64)
    if found.a.kind == "sound":
        a, b = (side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9) for side in (a, b))
    costs = np.sqrt(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0))
    low, high = np.quantile(costs, [0.01, 0.95])
    extent = (0.0, found.a.duration_s, 0.0, found.b.duration_s)
    axes.imshow(
        costs.T,
        origin="lower",
        aspect="auto",
        cmap="bone",
        extent=extent,
        vmin=low,
        vmax=max(high, low + 1e-9),
        interpolation="antialiased",
    )
    axes.plot(found.a.times_s, found.times_b_s, color="white", linewidth=3.6, alpha=0.9)
    axes.plot(found.a.times_s, found.times_b_s, color=_PATH, linewidth=1.7)
    axes.tick_params(labelbottom=False, labelleft=False, length=0)
    axes.set_xlim(0, found.a.duration_s)
    axes.set_ylim(0, found.b.duration_s)
    _bare(axes)


def _draw_profile(axes: Axes, series: TimedSeries, is_upright: bool) -> None:
    """Plot the level, brightness or first column of a series over time."""
    values = series.values[:, -1] if series.kind == "sound" else series.values.mean(axis=1)
    if series.kind == "numbers":
        values = series.values[:, 0]
    floor = np.full(len(values), float(values.min()))
    unit = _NOUN[series.kind]
    if is_upright:
        axes.fill_betweenx(series.times_s, floor, values, color=_QUIET, linewidth=0)
        axes.invert_xaxis()
        axes.set_ylabel(f"B: {series.path.name}, {unit}", color=_INK, fontsize=9)
        axes.set_xticks([])
    else:
        axes.fill_between(series.times_s, floor, values, color=_QUIET, linewidth=0)
        axes.set_yticks([])
        axes.tick_params(labelbottom=False, length=0)
    _bare(axes)


def _draw_pace(axes: Axes, found: SeriesAlignment) -> None:
    clock_a, clock_b = found.clock()
    reach = max(1, len(clock_a) // 60)
    spans = np.maximum(clock_a[reach:] - clock_a[:-reach], 1e-9)
    pace = (clock_b[reach:] - clock_b[:-reach]) / spans
    axes.axhline(1, color=_QUIET, linewidth=0.8)
    axes.plot((clock_a[reach:] + clock_a[:-reach]) / 2, pace, color=_PATH, linewidth=1.4)
    axes.set_ylim(0, max(2.0, float(np.quantile(pace, 0.99)) * 1.15) if len(pace) else 2.0)
    axes.set_ylabel(
        "B a second of A" if found.a.kind != "numbers" else "B a step of A", color=_INK, fontsize=9
    )
    axes.set_xlabel(f"A: {found.a.path.name}, {_NOUN[found.a.kind]}", color=_INK, fontsize=9)
    _bare(axes)


def _spread(length: int) -> Int64[np.ndarray, " n"]:
    return np.linspace(0, length - 1, min(length, _CELLS)).astype(int)


def _bare(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=_QUIET, labelsize=8)


def draw_words(audio: Path, words: Sequence[TimedWord], path: Path) -> None:
    """Plot words over the loudness of their recording; the file is complete or absent.

    Raises:
        UsageError: If `path` does not end in .png.
        MediaError: If `audio` does not decode.
    """
    _check_png(path)
    features = audio_features(audio_blocks(audio))
    num_rows = min(MOST_ROWS, max(1, int(np.ceil(len(features) / FRAMES_A_SECOND / _ROW_S))))
    figure = _figure(11, 0.55 + 1.05 * num_rows)
    rows = figure.subplots(num_rows, 1, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=0.02,
        right=0.98,
        top=1 - 0.5 / figure.get_figheight(),
        bottom=0.22 / figure.get_figheight(),
        hspace=0.3,
    )
    sure = float(np.mean([word.confidence for word in words])) if words else 0.0
    title = f"{audio.name} · {len(words)} words · mean confidence {sure:.2f}"
    figure.text(0.02, 1 - 0.28 / figure.get_figheight(), title, fontsize=12, color=_INK, weight="bold")
    for number, axes in enumerate(rows):
        _draw_row(axes, features, words, number * _ROW_S)
    replace_atomic(path, lambda temporary: figure.savefig(temporary, format="png"))


def _draw_row(axes: Axes, features: AudioFeatures, words: Sequence[TimedWord], begin_s: float) -> None:
    level = features.level_db[int(begin_s * FRAMES_A_SECOND) :][: int(_ROW_S * FRAMES_A_SECOND)]
    height = np.clip(1 - level / _QUIETEST_DB, 0, 1)
    times_s = begin_s + np.arange(len(level)) / FRAMES_A_SECOND
    axes.fill_between(times_s, -height, height, color=_SOUND, linewidth=0)
    for word in words:
        if begin_s <= word.end_s and word.start_s < begin_s + _ROW_S and word.end_s > word.start_s:
            _draw_word(axes, word, begin_s)
    axes.set_xlim(begin_s, begin_s + _ROW_S)
    axes.set_ylim(-1.05, 1.75)
    axes.set_yticks([])
    axes.set_xticks(np.arange(begin_s, begin_s + _ROW_S + 1, 1))
    _bare(axes)
    axes.tick_params(colors=_QUIET, labelsize=7, length=2, pad=1)


def _draw_word(axes: Axes, word: TimedWord, begin_s: float) -> None:
    share = min(1.0, max(0.0, word.confidence))
    red, green, blue = (low + (high - low) * share for low, high in zip(_UNSURE, _SURE, strict=True))
    colour = (red / 255, green / 255, blue / 255)
    axes.fill_between([word.start_s, word.end_s], -1, 1, color=colour, alpha=0.3, linewidth=0)
    axes.plot([word.start_s, word.start_s], [-1, 1], color=colour, linewidth=1)
    axes.plot([word.end_s, word.end_s], [-1, 1], color=colour, linewidth=0.5)
    room = (word.end_s - word.start_s) / max(1, len(word.word)) / _WIDTH_A_CHARACTER_S
    size = float(np.clip(9 * room, 5.5, 9))
    if word.start_s >= begin_s:
        axes.text(word.start_s, 1.15, word.word, fontsize=size, color=_INK)


def _check_png(path: Path) -> None:
    """UsageError if `path` does not end in .png."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path.name}: expected a name that ends in .png")


def _figure(width: int | float, height: int | float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    return figure
