"""Train from a recipe: tables in, a run's folder with a trained and measured model out.

The kind of recipe names its task (embedding, generative, codec, grounding); all tasks share the loop, the
folder, the card and the file of errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensorium.core.config import Config, override, parse, read_toml, to_toml
from sensorium.core.errors import UsageError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.training.codec.recipe import CodecRecipe
from sensorium.training.codec.task import prepare_codec
from sensorium.training.embedding.task import prepare_embedding
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import prepare_generative
from sensorium.training.grounding.criterion import GroundingRecipe
from sensorium.training.grounding.task import prepare_grounder
from sensorium.training.loop import Outcome, fit
from sensorium.training.recipe import Recipe, find_recipe
from sensorium.training.runs import RECIPE
from sensorium.training.state import STATE
from sensorium.training.task import Task

ERRORS = "errors.jsonl"
AnyRecipe = Recipe | GroundingRecipe | GenerativeRecipe | CodecRecipe
KINDS: Mapping[str, tuple[type[AnyRecipe], Callable[[Any, Progress], Task]]] = {
    "": (Recipe, prepare_embedding),
    "grounding": (GroundingRecipe, prepare_grounder),
    "generate": (GenerativeRecipe, prepare_generative),
    "codec": (CodecRecipe, prepare_codec),
}
"""Class of recipe and preparation by the recipe's `task`; a recipe without one trains a joint embedding."""


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: Its folder; `models.checkpoint.load` reads it.
        outcome: Steps, loss and the evaluation of the model that was kept.
        num_failed: Rows that could not be read; `errors.jsonl` gives the reasons.
        next_step: A command to try next.
    """

    folder: Path
    outcome: Outcome
    num_failed: int
    next_step: str = ""


def train(
    recipe: str | Path | AnyRecipe,
    out: str | Path,
    *,
    changes: Sequence[str] = (),
    resume: bool = False,
    progress: Progress = quiet,
) -> Trained:
    """Train from a recipe.

    Args:
        recipe: A TOML file, the name of a recipe that comes with sensorium, or a recipe.
        out: The run's folder: `model.safetensors`, `config.toml`, `card.md`, `recipe.toml`, `log.jsonl`,
            `curve.png`, `tensorboard/`, `last/` (the state to resume from), and `errors.jsonl` if rows
            could not be read.
        changes: `a.b=c` changes of a recipe that is read from a file.
        resume: Go on with the run in `out`.
        progress: Told of every long part.

    Raises:
        ConfigError: If the recipe does not parse or does not fit its tables.
        UsageError: If `out` holds a run and `resume` is not set.
        TrainingError: If nothing trains, nothing is held out, or the loss is not finite.
    """
    recipe = recipe if isinstance(recipe, Config) else read_any_recipe(recipe, changes)
    folder = Path(out)
    if not resume and (folder / STATE).exists():
        raise UsageError(f"{folder} holds a run already; go on with --resume, or choose another folder")
    prepare = next(prepare for kind, prepare in KINDS.values() if isinstance(recipe, kind))
    task = prepare(recipe, progress)
    if not (folder / STATE).exists():
        text = to_toml(task.recipe.model_dump(mode="json", exclude_none=True))
        write_atomic(folder / RECIPE, text)
    outcome = fit(task, folder, resume=resume, progress=progress)
    failures = task.failures()
    if failures:
        lines = ({"row": row, "stage": "train", "reason": reason} for row, reason in failures.items())
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomic(folder / ERRORS, text)
    return Trained(folder, outcome, len(failures), task.next_step.format(run=folder))


def read_any_recipe(path: str | Path, changes: Sequence[str] = ()) -> AnyRecipe:
    """Read a recipe of any kind; its `task` names the kind.

    Raises:
        NotFoundError: If there is no such file.
        ConfigError: If it does not parse.
    """
    values = override(read_toml(find_recipe(str(path))), changes)
    kind = KINDS.get(str(values.get("task", "")), KINDS[""])[0]
    return parse(kind, values, str(path))
