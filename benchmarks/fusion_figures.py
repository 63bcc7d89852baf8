"""Figures of `fusion.py`: accuracy as modalities go missing, and with every subset of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Found = Mapping[str, Any]
COLOURS = {
    "transformer": "#c0392b",
    "bottleneck": "#e67e22",
    "mult": "#8e44ad",
    "cross_attention": "#b39ddb",
    "concat": "#1f77b4",
    "gated": "#16a085",
    "tensor": "#7f8c8d",
    "lowrank": "#bdc3c7",
    "weighted": "#2c3e50",
    "late average": "#000000",
}
DASHED = ("weighted", "late average")
LIGHT = 0.62  # above, a cell is too dark for dark figures


def curve(accuracy: Mapping[str, list[float]], num_modalities: int, rates: np.ndarray) -> np.ndarray:
    """Expected accuracy where each modality is missing with these chances, independently."""
    total = np.zeros_like(rates)
    for subset, (mean, _) in accuracy.items():
        size = len(subset.split("+")) if subset else 0
        total += mean * (1 - rates) ** size * rates ** (num_modalities - size)
    return total


def draw_missing(tasks: Mapping[str, Found], path: Path) -> None:
    """A panel a task: accuracy over missing rate."""
    figure = _figure(4.1 * len(tasks) + 1.9, 3.9)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    rates = np.linspace(0, 1, 101)
    for panel, (name, found) in zip(panels, tasks.items(), strict=True):
        count = len(found["modalities"])
        for contender, colour in COLOURS.items():
            values = curve(found["contenders"][contender]["accuracy"], count, rates)
            style = "--" if contender in DASHED else "-"
            panel.plot(rates, values, style, color=colour, label=contender, linewidth=1.6)
        if found["best"] is not None:
            best = {subset: [value, 0.0] for subset, value in found["best"].items()}
            panel.plot(rates, curve(best, count, rates), ":", color="#888888", label="best possible")
        panel.set_title(name)
        panel.set_xlabel("share of modalities missing")
        _tidy(panel)
    panels[0].set_ylabel("accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=110)


def draw_subsets(tasks: Mapping[str, Found], path: Path) -> None:
    """A heat map a task: contenders by subsets."""
    figure = _figure(3.6 * len(tasks) + 1.6, 5.4)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for panel, (name, found) in zip(panels, tasks.items(), strict=True):
        _heat_map(panel, name, found, is_first=panel is panels[0])
    figure.savefig(path, dpi=110)


def _heat_map(panel: Axes, name: str, found: Found, *, is_first: bool) -> None:
    rows = _rows(found)
    subsets = [subset for subset in found["contenders"]["transformer"]["accuracy"] if subset]
    values = np.array([[row.get(subset, np.nan) for subset in subsets] for row in rows.values()])
    panel.imshow(values, cmap="YlGnBu", vmin=0, vmax=1.1, aspect="auto")
    for row, column in np.argwhere(~np.isnan(values)):
        value = values[row, column]
        shade = "white" if value > LIGHT else "#222222"
        shown = f"{value:.2f}".removeprefix("0")
        panel.text(column, row, shown, ha="center", va="center", fontsize=8, color=shade)
    panel.set_xticks(range(len(subsets)), [subset.replace("+", "\n") for subset in subsets], fontsize=8)
    panel.set_yticks(range(len(rows)), list(rows) if is_first else [""] * len(rows))
    panel.set_title(name)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _rows(found: Found) -> dict[str, dict[str, float]]:
    """Mean accuracies by contender and subset; the specialists of one modality share a row."""
    means = {
        name: {subset: mean for subset, (mean, _) in one["accuracy"].items()}
        for name, one in found["contenders"].items()
    }
    alone = {
        subset: mean for name, one in means.items() if name.startswith("only") for subset, mean in one.items()
    }
    rows = {name: means[name] for name in COLOURS}
    rows |= {"specialists": alone, "majority class": means["majority class"]}
    return {**rows, "best possible": found["best"] or {}}  # unknown: an empty row, for panels to line up


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(panel: Axes) -> None:
    panel.set_ylim(0, 1.02)
    panel.set_xlim(0, 1)
    panel.grid(alpha=0.25)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
