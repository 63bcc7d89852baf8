"""The card of a trained model, in Markdown: data, recipe, figures, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sensorium import __version__


@dataclass(frozen=True)
class Card:
    """Texts of a card, without Markdown headings.

    Attributes:
        title: What the model is.
        summary: A few words after version and date.
        data: One line for each table, and the held-out rows.
        measured_on: What the figures were measured on.
        figures: Lines of a table or a list.
        limits: One line each.
    """

    title: str
    summary: str
    data: Sequence[str]
    measured_on: str
    figures: Sequence[str]
    limits: Sequence[str]


def to_markdown(card: Card, recipe_toml: str, step: int) -> str:
    """Render a card.

    Args:
        card: The texts.
        recipe_toml: The recipe, quoted in full.
        step: Step whose weights were kept.
    """
    parts = [
        f"# {card.title}",
        f"Made by sensorium {__version__}, {datetime.now(UTC):%Y-%m-%d}; {card.summary}.",
        "## Data",
        _list(card.data),
        "## Recipe",
        f"```toml\n{recipe_toml.strip()}\n```",
        f"## Figures on {card.measured_on}, step {step}",
        "\n".join(card.figures),
        "## Limits",
        _list(card.limits),
    ]
    return "\n\n".join(parts) + "\n"


def figure_list(metrics: Mapping[str, Mapping[str, object]], digits: str = ".3f") -> list[str]:
    """One line for each entry of the metrics; decimal fractions in the format `digits`."""
    return [
        f"- {name}: {', '.join(f'{key} {_cell(value, digits)}' for key, value in figures.items())}"
        for name, figures in metrics.items()
    ]


def figure_table(
    heading: str, metrics: Mapping[str, Mapping[str, object]], columns: Sequence[str]
) -> list[str]:
    """A table with a row for each entry of the metrics; a figure's 95 % interval follows in brackets."""
    lines = [f"| {heading} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, figures in metrics.items():
        cells = (_cell(figures.get(key), ".3f") + _interval(figures.get(f"ci95 {key}")) for key in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(value: object, digits: str) -> str:
    return f"{value:{digits}}" if isinstance(value, float) else "" if value is None else str(value)


def _interval(bounds: object) -> str:
    return f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if isinstance(bounds, list) else ""


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
