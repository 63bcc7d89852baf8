"""Finds runs on disk, and reads their cards and recipes.

A run is a folder with a model (`models.checkpoint`) and, if `train` wrote it, its recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.checkpoint import CARD, CONFIG, WEIGHTS
from sensorium.training.recipe import Recipe, read_recipe

RECIPE = "recipe.toml"


@dataclass(frozen=True)
class Run:
    """A folder with a trained model.

    Attributes:
        path: The folder.
        num_bytes: Size of the weights.
        title: First heading of the card.
    """

    path: Path
    num_bytes: int
    title: str


def find_runs(root: Path) -> list[Run]:
    """Runs in `root` and one level below, by name."""
    folders = [root, *sorted(path for path in root.glob("*") if path.is_dir())] if root.is_dir() else []
    return [
        Run(folder, (folder / WEIGHTS).stat().st_size, _title(folder))
        for folder in folders
        if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()
    ]


def read_card(folder: Path) -> str:
    """The card of a run, in Markdown.

    Raises:
        NotFoundError: If there is none.
        CheckpointError: If it cannot be read, or is not UTF-8.
    """
    if not (folder / CARD).is_file():
        raise NotFoundError(
            f"no model in {folder}: it has no {CARD}; give a folder that sensorium train wrote"
        )
    try:
        return (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / CARD} cannot be read: {error}; restore it from a copy") from error


def trained_recipe(folder: Path) -> Recipe | None:
    """The recipe of a run, or None without one."""
    path = folder / RECIPE
    return read_recipe(path) if path.is_file() else None


def trained_languages(folder: Path) -> Sequence[str]:
    """Languages of a run's training; empty: all, or unknown."""
    recipe = trained_recipe(folder)
    return () if recipe is None else recipe.data.languages


def _title(folder: Path) -> str:
    try:
        lines = read_card(folder).splitlines()
    except (NotFoundError, CheckpointError):
        return ""
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")
