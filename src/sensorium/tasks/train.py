"""Train a joint embedding from a recipe: tables in, a run's folder with a measured model out.

Composes `training` with `evals`: this is where an evaluation is handed to the loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from sensorium import __version__
from sensorium.core.config import to_toml
from sensorium.core.errors import UsageError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.corpus import Corpus, open_corpus, open_table
from sensorium.training.heldout import FieldVectors, heldout_vectors
from sensorium.training.loop import Evaluation, Job, Outcome, fit
from sensorium.training.material import Material, build_batches, build_model, gather, used_fields
from sensorium.training.recipe import Recipe, read_recipe
from sensorium.training.state import STATE

RECIPE = "recipe.toml"
ERRORS = "errors.jsonl"
KS = (1, 5, 10)


def train(
    recipe: str | Path | Recipe,
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
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, changes)
    folder = Path(out)
    if not resume and (folder / STATE).exists():
        raise UsageError(f"{folder} holds a run already; go on with --resume, or choose another folder")
    fields = used_fields(recipe, open_table(recipe.data.table, progress).fields)
    corpus = open_corpus(recipe.data, fields, recipe.seed, progress)
    model = build_model(recipe, corpus)
    material = gather(recipe, model, corpus, progress)
    if not (folder / STATE).exists():
        write_atomic(folder / RECIPE, to_toml(recipe.model_dump(mode="json", exclude_none=True)))
    job = Job(
        model=model,
        batches=build_batches(recipe, model, material),
        loss=recipe.loss,
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
    return Trained(folder, outcome, len(failures))


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: Where it stands; `models.checkpoint.load` reads it.
        outcome: Steps, loss and the evaluation of the model that was kept.
        num_failed: Rows that could not be read; `errors.jsonl` says why.
    """

    folder: Path
    outcome: Outcome
    num_failed: int


def _failure(corpus: Corpus, row: int, reason: str) -> str:
    line = {"row": corpus.name_rows([row])[0], "stage": "train", "reason": reason}
    return json.dumps(line, ensure_ascii=False) + "\n"


def evaluate(model: JointEmbedding, material: Material, recipe: Recipe) -> Evaluation:
    """Recall between the fields of each pair of the loss, both ways, over the held-out rows.

    A query's positives are the items of its group. Texts that are equal count once. The score is the mean of
    all recalls of the first pair.
    """
    vectors = heldout_vectors(model, material)
    metrics: dict[str, Mapping[str, float]] = {}
    for pair in recipe.loss.pairs:
        for query, item in ((pair.a, pair.b), (pair.b, pair.a)):
            metrics[f"{query}->{item}"] = _recall(vectors[query], vectors[item], material.groups, item)
    first = recipe.loss.pairs[0]
    both = [metrics[f"{first.a}->{first.b}"], metrics[f"{first.b}->{first.a}"]]
    score = float(np.mean([found[f"R@{k}"] for found in both for k in KS]))
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
    if evaluation is None:
        return ["Not measured."]
    names = [f"R@{k}" for k in KS] + [f"chance@{k}" for k in KS] + ["queries", "items"]
    lines = [f"| from -> to | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for pair, found in evaluation.metrics.items():
        cells = [f"{found[name]:.3f}" if "@" in name else f"{found[name]:.0f}" for name in names]
        lines.append(f"| {pair} | {' | '.join(cells)} |")
    return lines


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


def _recall(
    queries: FieldVectors, items: FieldVectors, groups: Sequence[str], item_field: str
) -> dict[str, float]:
    """Recall of one direction; of equal texts the first stands for all."""
    group_of = np.unique(np.asarray(groups), return_inverse=True)[1]
    rows, vectors = items.rows, items.vectors
    if item_field == "text" and len(rows):
        first = np.unique(group_of[rows], return_index=True)[1]
        rows, vectors = rows[np.sort(first)], vectors[np.sort(first)]
    positives = group_of[queries.rows][:, None] == group_of[rows][None]
    answerable = positives.any(axis=1)
    scores, positives = queries.vectors[answerable] @ vectors.T, positives[answerable]
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(positives, order, axis=1)
    result: dict[str, float] = {}
    for k in KS:
        result[f"R@{k}"] = float(hits[:, :k].any(axis=1).mean()) if len(hits) else 0.0
        result[f"chance@{k}"] = _chance(positives, k)
    return result | {"queries": float(len(scores)), "items": float(len(rows))}


def _chance(positives: np.ndarray, k: int) -> float:
    """Mean chance of a hit among k items drawn at random: 1 - C(n - p, k) / C(n, k)."""
    num_queries, num_items = positives.shape
    if num_queries == 0 or num_items == 0:
        return 0.0
    counts, weights = np.unique(positives.sum(axis=1), return_counts=True)
    misses = [
        float(np.prod([max(num_items - count - j, 0) / (num_items - j) for j in range(min(k, num_items))]))
        for count in counts
    ]
    return float(1 - np.average(misses, weights=weights))
