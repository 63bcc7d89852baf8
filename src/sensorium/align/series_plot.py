"""Plots a series alignment as a PNG: the cost matrix with the path, both series, and the local tempo.

Dark cells are similar moments. The tempo below is seconds of B per second of A (2: B is half as fast).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from sensorium.align.align_series import SeriesAlignment
from sensorium.align.series import TimedSeries
from sensorium.core.errors import UsageError
from sensorium.core.files import replace_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CELLS = 600
_INK, _QUIET, _PATH = "#1e2430", "#8a8f99", "#ff5a36"
_NOUN = {"sound": "seconds", "picture": "seconds", "numbers": "steps"}


def draw_alignment(found: SeriesAlignment, path: Path) -> None:
    """Plot an alignment; the file is complete or absent.

    Raises:
        UsageError: If `path` does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path.name}: expected a name that ends in .png")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9.4), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
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
    places: np.ndarray = np.linspace(0, length - 1, min(length, _CELLS)).astype(int)
    return places


def _bare(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=_QUIET, labelsize=8)
