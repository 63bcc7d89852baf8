"""Training of joint embeddings: from a recipe to model, batches, criterion, recall and card."""

from __future__ import annotations

import numpy as np

from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections import open_table
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.card import Card, figure_table
from sensorium.training.embedding.corpus import open_corpus
from sensorium.training.embedding.criterion import Contrast
from sensorium.training.embedding.data import (
    TrainingData,
    build_batches,
    build_model,
    load_data,
    rows_with_field,
    used_fields,
)
from sensorium.training.embedding.fields import describe_fields, with_pairs
from sensorium.training.embedding.validation import validation_vectors
from sensorium.training.evaluate import recalls
from sensorium.training.recipe import Recipe
from sensorium.training.task import Evaluation, Task

KS = (1, 5, 10)


def prepare_embedding(recipe: Recipe, progress: Progress = quiet) -> Task:
    """Prepare the training of a joint embedding.

    Raises:
        ConfigError: If the recipe does not fit its tables.
        TrainingError: If no row trains, none is held out, or no two fields meet in a row.
    """
    table = open_table(recipe.data.table, progress)
    recipe = with_pairs(recipe, table)
    fields = used_fields(recipe, table.fields)
    corpus = open_corpus(recipe.data, fields, recipe.seed, progress)
    model = build_model(recipe, corpus)
    data = load_data(recipe, model, corpus, progress)
    rows = {name: rows_with_field(data, name) for name in corpus.fields}
    progress(0, None, describe_fields(recipe, table, rows, corpus.train[corpus.train < len(table)]))
    batches = build_batches(recipe, model, data)

    def failures() -> dict[str, str]:
        found = {**dict(data.failures), **getattr(batches, "failures", {})}
        return {corpus.name_rows([row])[0]: reason for row, reason in sorted(found.items())}

    return Task(
        recipe=recipe,
        model=model,
        batches=batches,
        criterion=Contrast(recipe.loss),
        data={"table": corpus.identity()},
        evaluate=lambda trained: evaluate(trained, data, recipe),
        describe=lambda evaluation: describe(recipe, data, model, evaluation),
        name_rows=corpus.name_rows,
        failures=failures,
        next_step='sensorium embed TABLE --model {run}, then sensorium search TABLE "a text"',
    )


def evaluate(model: JointEmbedding, data: TrainingData, recipe: Recipe) -> Evaluation:
    """Recall from each field to each other over the held-out rows, as `training.evaluate` measures it.

    The score is the mean recall at 1, 5 and 10 of the loss's first pair, in both directions.
    """
    vectors = validation_vectors(model, data)
    metrics = recalls(data.corpus.tables[0], vectors, data.corpus.languages)
    first = recipe.loss.pairs[0]
    both = [metrics.get(name, {}) for name in (f"{first.a}->{first.b}", f"{first.b}->{first.a}")]
    score = float(np.mean([found.get(f"R@{k}", 0.0) for found in both for k in KS]))
    return Evaluation(score, f"mean recall, {first.a} and {first.b}", metrics)


def describe(
    recipe: Recipe, data: TrainingData, model: JointEmbedding, evaluation: Evaluation | None
) -> Card:
    """Texts of the card: data, towers, recall beside chance, limits."""
    corpus = data.corpus
    lines = []
    for name, table in zip(corpus.names, corpus.tables, strict=True):
        licence = table.info.get("licence") or "licence not recorded"
        lines.append(f"{name}: {len(table):,} rows ({licence}). {table.info.get('description', '')}".rstrip())
    lines.append(f"{len(data.train):,} rows trained, {len(corpus.test):,} were held out.")
    figures = ["Not measured: the held-out rows do not hold two fields that could be compared."]
    if evaluation is not None and evaluation.metrics:
        columns = [*(f"R@{k}" for k in KS), "chance@10", "queries", "items"]
        figures = figure_table("from -> to", evaluation.metrics, columns)
        figures += ["", "In brackets: 95 % intervals by bootstrap over groups."]
    chosen = (
        "The step was chosen by these figures, so they flatter the model."
        if recipe.train.keep == "best"
        else "The last step was kept; nothing was chosen by these figures."
    )
    languages = ", ".join(recipe.data.languages) or "every language of the tables"
    return Card(
        title=f"Joint embedding of {', '.join(model.towers)}, trained on {recipe.data.table}",
        summary=f"fingerprint `{model.fingerprint}`",
        data=lines,
        measured_on="the held-out rows",
        figures=figures,
        limits=[
            chosen,
            f"Texts and speech: {languages}.",
            "It has seen little but media like its tables'; measure it on yours before relying on it.",
        ],
    )
