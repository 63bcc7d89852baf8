"""Evaluation of joint embeddings: recall between modalities, zero-shot accuracy, linear probe.

In: a run's folder, and optionally a table. Out: a report with 95 % intervals. Without a table, the rows that
the run's recipe held out are measured. Definitions are CLIP_benchmark's: a query is a hit at k if one of its
positives is among the k nearest items, averaged over queries. Positives are the items of the query's group
(rows with the same caption). The first text and clip of a row count, equal texts count once, and ties keep
the order of the items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from sensorium.core.errors import NotFoundError, UsageError, warn
from sensorium.core.runtime import Progress, pick_device, quiet
from sensorium.data.collections import open_table
from sensorium.data.table.sample import is_asked, normalise
from sensorium.data.table.table import Table
from sensorium.evals import (
    Accuracy,
    Retrieval,
    accuracy,
    bootstrap_interval,
    class_vectors,
    evaluate_retrieval,
    linear_probe,
)
from sensorium.evals.zero_shot import PHOTO
from sensorium.media import Text
from sensorium.models.checkpoint import load
from sensorium.models.embed import RowVectors, embed_rows, fields_of
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.recipe import Recipe
from sensorium.training.runs import trained_recipe
from sensorium.training.validation import divide

Metrics = dict[str, float | int | list[float]]


@dataclass(frozen=True)
class Held:
    """Rows to measure.

    Attributes:
        table: The table.
        rows: Rows to measure.
        train: Training rows of a linear probe; empty if the whole table is measured.
        languages: Languages of texts and clips; empty: all.
    """

    table: Table
    rows: Int64[np.ndarray, " n"]
    train: Int64[np.ndarray, " m"]
    languages: Sequence[str]


@dataclass(frozen=True)
class Report:
    """Results.

    Attributes:
        num_rows: Number of measured rows.
        metrics: By kind, as {"image->text": {"R@1": 0.5, "ci95 R@1": [0.4, 0.6]}}.
        failures: By field, rows that could not be read and were left out.
    """

    num_rows: int
    metrics: Mapping[str, Metrics]
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OnePerRow:
    """One vector for each row with a field.

    Attributes:
        rows: Row numbers, ascending, (n,).
        vectors: Unit vectors, (n, E).
    """

    rows: Int64[np.ndarray, " n"]
    vectors: Float32[np.ndarray, "n E"]


def evaluate_run(
    folder: Path,
    *,
    table: Path | None = None,
    category: str = "category",
    with_probe: bool = False,
    device: str = "cpu",
    progress: Progress = quiet,
) -> Report:
    """Measure a run on rows that it has not seen.

    Args:
        folder: The run's folder.
        table: Measure all rows of this table; of the run's own table, the held-out rows.
        category: Key of `Sample.meta` that names the class of a row; rows without it are left out.
        with_probe: Also fit a linear probe on the training rows.
        device: cpu, cuda, ...
        progress: Told of every long part.

    Raises:
        NotFoundError: If there is no such run or table.
        UsageError: If no table is given and the run kept no recipe, or nothing can be compared.
    """
    model = load(folder, JointEmbedding).to(pick_device(device))
    held = held_out(folder, table, progress)
    fields = fields_of(held.table, model)
    embedded = {
        name: embed_rows(held.table, model, name, held.rows, languages=held.languages) for name in fields
    }
    vectors = {name: _first_of_each(found) for name, found in embedded.items()}
    failures = {name: len(found.failures) for name, found in embedded.items() if found.failures}
    for name, count in failures.items():
        row, reason = embedded[name].failures[0]
        warn(
            f"{name} of {count:,} rows could not be read and is not measured; the first: row {row}: {reason}"
        )
    metrics = recalls(held.table, vectors, held.languages)
    labels = _labels(held.table, category)
    if category != "category" and not labels:
        warn(f"no two rows name a class in their metadata under '{category}', so no classes are measured")
    is_named = "image" in vectors and any(row in labels for row in vectors["image"].rows.tolist())
    if is_named and "text" in model.towers:
        metrics["zero-shot image"] = _zero_shot(model, vectors["image"], labels)
    if with_probe:
        metrics |= _probes(model, held, vectors, labels)
    if not metrics:
        raise UsageError(
            f"{held.table.path}: nothing to compare; rows need at least two of the model's modalities"
        )
    return Report(len(held.rows), metrics, failures)


def held_out(folder: Path, table: Path | None, progress: Progress = quiet) -> Held:
    """Find the rows to measure (see `evaluate_run`)."""
    recipe = trained_recipe(folder)
    if table is not None:
        opened = Table.open(table)
        is_own = recipe is not None and _is_table_of(recipe, opened, progress)
        if not is_own:
            languages = () if recipe is None else tuple(recipe.data.languages)
            return Held(opened, np.arange(len(opened)), np.zeros(0, np.int64), languages)
    if recipe is None:
        raise UsageError(f"{folder} kept no recipe, so its held-out rows are not known; give --table TABLE")
    return _split_of(recipe, open_table(recipe.data.table, progress))


def recalls(
    table: Table, vectors: Mapping[str, OnePerRow], languages: Sequence[str] = ()
) -> dict[str, Metrics]:
    """Recall from each field to each other, for rows and vectors of a table.

    Args:
        table: Its groups define the positives.
        vectors: By field.
        languages: Languages of the embedded texts; empty: all.
    """
    group_of = np.unique(np.asarray(table.groups), return_inverse=True)[1].astype(np.int64)
    metrics: dict[str, Metrics] = {}
    for query, item in permutations(vectors, 2):
        queries = vectors[query]
        items = _distinct_texts(table, vectors[item], languages) if item == "text" else vectors[item]
        groups = group_of[queries.rows], group_of[items.rows]
        if np.isin(*groups).sum() >= 2 and len(items.rows) >= 2:
            found = evaluate_retrieval(queries.vectors, items.vectors, *groups)
            metrics[f"{query}->{item}"] = _recall_figures(found)
    return metrics


def _recall_figures(found: Retrieval) -> Metrics:
    figures: Metrics = {f"R@{k}": interval.mean for k, interval in found.recall.items()}
    figures |= {f"chance@{k}": chance for k, chance in found.chance.items()}
    figures |= {f"ci95 R@{k}": [interval.low, interval.high] for k, interval in found.recall.items()}
    return figures | {
        "median_rank": found.median_rank,
        "queries": found.num_queries,
        "items": found.num_items,
    }


def _one_per_row(model: JointEmbedding, held: Held, name: str, rows: Int64[np.ndarray, " n"]) -> OnePerRow:
    return _first_of_each(embed_rows(held.table, model, name, rows, languages=held.languages))


def _first_of_each(found: RowVectors) -> OnePerRow:
    distinct, first = np.unique(found.rows, return_index=True)
    return OnePerRow(distinct, found.vectors[first])


def _distinct_texts(table: Table, items: OnePerRow, languages: Sequence[str]) -> OnePerRow:
    samples = table.rows(items.rows, columns=["texts"])
    asked = ([one for one in row.texts if is_asked(one.language, "text", languages)] for row in samples)
    texts = [normalise(captions[0].text) for captions in asked]
    first = np.sort(np.unique(np.asarray(texts), return_index=True)[1])
    return OnePerRow(items.rows[first], items.vectors[first])


def _split_of(recipe: Recipe, table: Table) -> Held:
    """Divide the run's own table as its training did."""
    train, test = divide(table, recipe.data.test, recipe.seed)
    held_out = np.unique(np.concatenate(list(test.values())))
    return Held(table, held_out, train, tuple(recipe.data.languages))


def _is_table_of(recipe: Recipe, table: Table, progress: Progress) -> bool:
    try:
        own = open_table(recipe.data.table, progress)
    except NotFoundError:
        return False
    return own.path.resolve() == table.path.resolve() or own.ids == table.ids


def _labels(table: Table, category: str) -> dict[int, str]:
    """Class of each labelled row; empty if there are fewer than two classes."""
    metas = table.column("meta")
    labels = {row: str(meta[category]) for row, meta in enumerate(metas) if meta.get(category)}
    return labels if len(set(labels.values())) >= 2 else {}


def _zero_shot(model: JointEmbedding, items: OnePerRow, labels: Mapping[int, str]) -> Metrics:
    """Zero-shot classification accuracy of the images."""
    names = sorted(set(labels.values()))
    known = np.array([row in labels for row in items.rows.tolist()])
    targets = np.array([names.index(labels[row]) for row in items.rows[known].tolist()])
    prompts = [label_words(name) for name in names]
    classes = class_vectors(prompts, lambda texts: model.embed([Text(one) for one in texts]).vectors, PHOTO)
    scores = items.vectors[known] @ classes.T
    right = scores.argmax(axis=1) == targets
    interval = bootstrap_interval(right)
    return _accuracy_figures(accuracy(scores, targets)) | {"ci95 acc@1": [interval.low, interval.high]}


def _accuracy_figures(found: Accuracy) -> Metrics:
    figures: Metrics = {"acc@1": found.acc1}
    if found.acc5 is not None:
        figures["acc@5"] = found.acc5
    return figures | {
        "mean_per_class_recall": found.mean_per_class_recall,
        "chance@1": found.chance,
        "items": found.num_samples,
        "classes": found.num_classes,
    }


def _probes(
    model: JointEmbedding, held: Held, vectors: Mapping[str, OnePerRow], labels: Mapping[int, str]
) -> dict[str, Metrics]:
    if not labels or not len(held.train):
        raise UsageError("a linear probe needs the run's own table, with a class in the metadata of its rows")
    names = sorted(set(labels.values()))
    number = {row: names.index(label) for row, label in labels.items()}
    metrics: dict[str, Metrics] = {}
    for name in vectors.keys() - {"text"}:
        parts = (_one_per_row(model, held, name, held.train), vectors[name])
        train, test = (_labelled(part, number) for part in parts)
        if len(train[0]) and len(test[0]):
            metrics[f"linear probe {name}"] = _accuracy_figures(linear_probe(train, test).accuracy)
    return metrics


def _labelled(
    items: OnePerRow, number: Mapping[int, int]
) -> tuple[Float32[np.ndarray, "n E"], Int64[np.ndarray, " n"]]:
    known = np.array([row in number for row in items.rows.tolist()], dtype=bool)
    return items.vectors[known], np.array([number[row] for row in items.rows[known].tolist()], dtype=np.int64)


def label_words(label: str) -> str:
    """Words of a class name: the last part of a path, separators as spaces.

    Example:
        >>> label_words("animals/sea_birds")
        'sea birds'
    """
    return " ".join(label.rpartition("/")[2].replace("_", " ").replace("-", " ").split())
