"""Train from a recipe: tables in, a run's folder with a measured model out. Here: a joint embedding.

Composes `training` with `evals`: this is where an evaluation is handed to the loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np

from sensorium import __version__
from sensorium.core.config import Config, override, parse, read_toml, to_toml
from sensorium.core.errors import UsageError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.models.prompts import Task
from sensorium.training.codec.recipe import CodecRecipe
from sensorium.training.codec.task import train_codec
from sensorium.training.embedding.corpus import Corpus, open_corpus, open_table
from sensorium.training.embedding.data import (
    Material,
    build_batches,
    build_model,
    gather,
    holding,
    used_fields,
)
from sensorium.training.embedding.validation import heldout_vectors
from sensorium.training.evaluate import OnePerRow, recalls
from sensorium.training.embedding.fields import fitted, say_what_trains
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import train_generative
from sensorium.training.grounding.criterion import GroundingRecipe
from sensorium.training.grounding.task import train_grounder
from sensorium.training.loop import Evaluation, Job, Outcome, fit
from sensorium.training.embedding.criterion import Contrast
from sensorium.training.recipe import Recipe, find_recipe
from sensorium.training.state import STATE

RECIPE = "recipe.toml"
ERRORS = "errors.jsonl"
KS = (1, 5, 10)
AnyRecipe = Recipe | GroundingRecipe | GenerativeRecipe | CodecRecipe
KINDS: Mapping[str, type[AnyRecipe]] = {
    "grounding": GroundingRecipe,
    "generate": GenerativeRecipe,
    "codec": CodecRecipe,
}
"""Recipes by their `task`; one that names none is of a joint embedding."""
_ASKED: Mapping[Task, str] = MappingProxyType(
    {
        "ask": 'ask IMAGE "a question"',
        "caption": "caption IMAGE",
        "transcribe": "transcribe AUDIO",
        "text": 'ask "a question"',
        "translate": 'translate "a text" --to CODE',
        "draw": 'draw "a text" -o out.png',
        "speak": 'speak "a text" -o out.wav',
    }
)
"""How a model is asked for what it was taught first."""


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
            `curve.png`, `tensorboard/`, `last/` (the state to go on from), and `errors.jsonl` if rows
            could not be read.
        changes: `a.b=c` changes of a recipe that is read from a file.
        resume: Go on with the run in `out`.
        progress: Told of every long part.

    Raises:
        ConfigError: If the recipe does not parse or does not fit its tables.
        UsageError: If `out` holds a run and `resume` is not set.
        TrainingError: If training cannot go on.
    """
    recipe = recipe if isinstance(recipe, Config) else read_any_recipe(recipe, changes)
    folder = Path(out)
    if not resume and (folder / STATE).exists():
        raise UsageError(f"{folder} holds a run already; go on with --resume, or choose another folder")
    if isinstance(recipe, GroundingRecipe):
        then = f'sensorium align phrases IMAGE "a text" --model {folder} -o boxes.png'
        return Trained(folder, *train_grounder(recipe, folder, resume=resume, progress=progress), then)
    if isinstance(recipe, GenerativeRecipe):
        then = f"sensorium {_ASKED[recipe.data.tasks[0].task]} --model {folder}"
        return Trained(folder, *train_generative(recipe, folder, resume=resume, progress=progress), then)
    if isinstance(recipe, CodecRecipe):
        then = f"sensorium.load('{folder}').encode(sensorium.open(FILE))"
        return Trained(folder, *train_codec(recipe, folder, resume=resume, progress=progress), then)
    return _train_embedding(recipe, folder, resume, progress)


def read_any_recipe(path: str | Path, changes: Sequence[str] = ()) -> AnyRecipe:
    """Read a recipe of any kind: its `task` tells which.

    Raises:
        NotFoundError: If there is no such file.
        ConfigError: If it does not parse.
    """
    values = override(read_toml(find_recipe(str(path))), changes)
    kind = KINDS.get(str(values.get("task", "")), Recipe)
    return parse(kind, values, str(path))


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: Where it stands; `models.checkpoint.load` reads it.
        outcome: Steps, loss and the evaluation of the model that was kept.
        num_failed: Rows that could not be read; `errors.jsonl` says why.
        next_step: A command to go on with.
    """

    folder: Path
    outcome: Outcome
    num_failed: int
    next_step: str = ""


def _train_embedding(recipe: Recipe, folder: Path, resume: bool, progress: Progress) -> Trained:
    table = open_table(recipe.data.table, progress)
    recipe = fitted(recipe, table)
    fields = used_fields(recipe, table.fields)
    corpus = open_corpus(recipe.data, fields, recipe.seed, progress)
    model = build_model(recipe, corpus)
    material = gather(recipe, model, corpus, progress)
    rows = {name: holding(material, name) for name in corpus.fields}
    progress(0, None, say_what_trains(recipe, table, rows, corpus.train[corpus.train < len(table)]))
    if not (folder / STATE).exists():
        write_atomic(folder / RECIPE, to_toml(recipe.model_dump(mode="json", exclude_none=True)))
    job = Job(
        model=model,
        batches=build_batches(recipe, model, material),
        loss=Contrast(recipe.loss),
        train=recipe.train,
        seed=recipe.seed,
        folder=folder,
        identity={**recipe.model_dump(mode="json"), "table": corpus.identity()},
        evaluate=lambda trained: evaluate(trained, material, recipe),
        name_rows=corpus.name_rows,
        card=lambda evaluation, step: card(recipe, material, model, evaluation, step),
        progress=progress,
    )
    outcome = fit(job, resume=resume)
    failures = {**dict(material.failures), **getattr(job.batches, "failures", {})}
    if failures:
        lines = (_failure(corpus, row, reason) for row, reason in sorted(failures.items()))
        write_atomic(folder / ERRORS, "".join(lines))
    then = f'sensorium embed TABLE --model {folder}, then sensorium search TABLE "a text"'
    return Trained(folder, outcome, len(failures), then)


def _failure(corpus: Corpus, row: int, reason: str) -> str:
    line = {"row": corpus.name_rows([row])[0], "stage": "train", "reason": reason}
    return json.dumps(line, ensure_ascii=False) + "\n"


def evaluate(model: JointEmbedding, material: Material, recipe: Recipe) -> Evaluation:
    """Recall from each field to each other over the held-out rows, as `tasks.evaluate` measures it.

    The score is the mean of all recalls of the loss's first pair, both ways.
    """
    found = heldout_vectors(model, material)
    vectors = {name: OnePerRow(one.rows, one.vectors) for name, one in found.items()}
    metrics = recalls(material.corpus.tables[0], vectors, material.corpus.languages)
    first = recipe.loss.pairs[0]
    both = [metrics.get(name, {}) for name in (f"{first.a}->{first.b}", f"{first.b}->{first.a}")]
    score = float(np.mean([found.get(f"R@{k}", 0.0) for found in both for k in KS]))
    return Evaluation(score, f"mean recall, {first.a} and {first.b}", metrics)


def card(
    recipe: Recipe, material: Material, model: JointEmbedding, evaluation: Evaluation | None, step: int
) -> str:
    """The card of a trained model, in Markdown: data, towers, how it was trained, figures, limits."""
    corpus = material.corpus
    parts = [f"# Joint embedding of {', '.join(model.towers)}, trained on {recipe.data.table}", ""]
    parts += [
        f"Made by sensorium {__version__}, {datetime.now(UTC):%Y-%m-%d}; fingerprint `{model.fingerprint}`.",
        "",
    ]
    parts += ["## Data", ""]
    for name, table in zip(corpus.names, corpus.tables, strict=True):
        licence = table.info.get("licence") or "licence not recorded"
        parts.append(
            f"- {name}: {len(table):,} rows ({licence}). {table.info.get('description', '')}".rstrip()
        )
    parts += [f"- {len(material.train):,} rows trained, {len(corpus.test):,} were held out.", ""]
    parts += [
        "## Recipe",
        "",
        "```toml",
        to_toml(recipe.model_dump(mode="json", exclude_none=True)).strip(),
        "```",
        "",
    ]
    parts += [f"## Figures on the held-out rows, step {step}", "", *_figures(evaluation), ""]
    return "\n".join([*parts, *_limits(recipe)])


def _figures(evaluation: Evaluation | None) -> list[str]:
    if evaluation is None or not evaluation.metrics:
        return ["Not measured: the held-out rows do not hold two fields that could be compared."]
    names = [f"R@{k}" for k in KS]
    lines = [f"| from -> to | {' | '.join(names)} | chance@10 | queries | items |", f"|---|{'---|' * 6}"]
    for pair, found in evaluation.metrics.items():
        cells = [_with_interval(found, name) for name in names]
        rest = [f"{found['chance@10']:.3f}", str(found["queries"]), str(found["items"])]
        lines.append(f"| {pair} | {' | '.join([*cells, *rest])} |")
    return [*lines, "", "In brackets: 95 % intervals by bootstrap over groups."]


def _with_interval(found: Mapping[str, object], name: str) -> str:
    interval = found.get(f"ci95 {name}")
    shown = f"{found[name]:.3f}"
    return f"{shown} [{interval[0]:.2f}, {interval[1]:.2f}]" if isinstance(interval, list) else shown


def _limits(recipe: Recipe) -> list[str]:
    languages = ", ".join(recipe.data.languages) or "every language of the tables"
    chosen = (
        "The step was chosen by these figures, so they flatter the model."
        if recipe.train.keep == "best"
        else "The last step was kept; nothing was chosen by these figures."
    )
    return [
        "## Limits",
        "",
        f"- {chosen}",
        f"- Texts and speech: {languages}.",
        "- It has seen little but things like those of its tables; measure it on yours before relying on it.",
        "",
    ]
