"""Training of grounders: from a recipe to model, batches, criterion, accuracy and card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from sensorium.codecs.bpe import train_bpe
from sensorium.core.errors import MediaError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections import open_table
from sensorium.data.loading.order import Order
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.evals.grounding import Grounded, grounding_metrics
from sensorium.grounding.batches import PreparedImage, prepare_row
from sensorium.grounding.predict import Detection, locate
from sensorium.models.grounder import Grounder, GrounderConfig, PartConfig
from sensorium.training.card import Card, figure_table
from sensorium.training.grounding.batches import phrase_batches
from sensorium.training.grounding.criterion import Grounding, GroundingRecipe
from sensorium.training.log import Figures
from sensorium.training.task import Evaluation, Task
from sensorium.training.validation import Rows, check_rows, divide

IMAGES_AT_ONCE = 32
TYPES = "types"
"""Key of a row's metadata: the type of each region, separated by spaces, if it is known."""


def prepare_grounder(recipe: GroundingRecipe, progress: Progress = quiet) -> Task:
    """Prepare the training of a grounder.

    Raises:
        ConfigError: If the table has no such sources.
        TrainingError: If nothing trains or nothing is held out.
    """
    table = open_table(recipe.data.table, progress)
    train, test = divide_phrases(table, recipe)
    model = build_grounder(recipe, table, train)
    failures: dict[int, str] = {}
    order = Order(train, recipe.train.batch_size, recipe.seed)
    measured = {name: rows[: recipe.data.max_measured] for name, rows in test.items()}
    return Task(
        recipe=recipe,
        model=model,
        batches=phrase_batches(
            table, order, model, texts_per_image=recipe.data.texts_per_image, failures=failures
        ),
        criterion=Grounding(recipe.box_weight, recipe.names_weight, recipe.places_step),
        data={"table": hashlib.sha256("".join(table.ids).encode()).hexdigest()[:16]},
        evaluate=lambda trained: evaluate(trained, table, measured),
        describe=lambda evaluation: describe(recipe, table, len(train), evaluation),
        failures=lambda: {
            f"{row} ({table.ids[row]} in {recipe.data.table})": reason
            for row, reason in sorted(failures.items())
        },
        next_step='sensorium align phrases IMAGE "a text" --model {run} -o boxes.png',
    )


def build_grounder(recipe: GroundingRecipe, table: Table, train: Sequence[int] | np.ndarray) -> Grounder:
    """Build the recipe's model; if it names no tokenizer, one is trained on the training texts."""
    config = recipe.model
    if "tokenizer_json" not in config.text.options:
        tokenizer = train_bpe(_texts(table, train), recipe.data.vocab_size, lowercase=True)
        text = PartConfig(
            encoder=config.text.encoder, options={**config.text.options, "tokenizer_json": tokenizer}
        )
        config = GrounderConfig(**{**dict(config), "text": text})
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return Grounder(config)


def evaluate(model: Grounder, table: Table, test: Mapping[str, np.ndarray]) -> Evaluation:
    """Measure each held-out source; the score is the mean accuracy."""
    metrics: dict[str, Figures] = {}
    for name, rows in test.items():
        measured = [one for one, _ in measure_rows(model, table, rows)]
        metrics[name] = dict(grounding_metrics(measured))
    score = float(np.mean([found.get("accuracy", 0.0) for found in metrics.values()]))
    return Evaluation(score, "mean accuracy at IoU .5", metrics)


def measure_rows(
    model: Grounder, table: Table, rows: Sequence[int] | np.ndarray
) -> Iterator[tuple[Grounded, str]]:
    """Locate every phrase of some rows; yields prediction with truth, and the type ("" if unknown)."""
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        samples: list[Sample] = []
        prepared: list[PreparedImage] = []
        part = np.asarray(rows[start : start + IMAGES_AT_ONCE])
        for row, sample in zip(
            part.tolist(), table.rows(part, columns=["image", "regions", "meta"]), strict=True
        ):
            try:
                prepared.append(prepare_row(sample, row, model))
                samples.append(sample)
            except MediaError:
                continue
        regions = [sample.regions for sample in samples]
        found = locate(model, prepared, regions) if prepared else []
        for sample, image, own in zip(samples, prepared, found, strict=True):
            types = str(sample.meta.get(TYPES, "")).split()
            for place, one in enumerate(own):
                yield _grounded(one, image), types[place] if place < len(types) else ""


def _grounded(one: Detection, image: PreparedImage) -> Grounded:
    truth = np.array(one.region.boxes, np.float64).reshape(-1, 4)
    return Grounded(
        one.boxes.astype(np.float64), one.score, truth, image.width_px, image.height_px, point=one.point
    )


def divide_phrases(table: Table, recipe: GroundingRecipe) -> tuple[Rows, dict[str, Rows]]:
    """Rows that train and held-out rows of each source; only rows with regions, or captions, are used.

    Raises:
        ConfigError: If a source does not occur.
        TrainingError: If nothing trains or nothing is held out.
    """
    train, test = divide(table, recipe.data.test, recipe.seed)
    with_regions = np.flatnonzero([bool(regions) for regions in table.column("regions")])
    train = np.intersect1d(train, with_regions if recipe.data.texts_per_image else table.rows_with("text"))
    test = {name: np.intersect1d(rows, with_regions) for name, rows in test.items()}
    check_rows(recipe.data.table, train, test, "rows with phrases")
    return train, test


def _texts(table: Table, rows: Sequence[int] | np.ndarray) -> Iterator[str]:
    for sample in table.rows(rows, columns=["texts", "regions"]):
        yield from (caption.text for caption in sample.texts)
        yield from dict.fromkeys(region.text for region in sample.regions)


def describe(recipe: GroundingRecipe, table: Table, num_train: int, evaluation: Evaluation | None) -> Card:
    """Texts of the card."""
    kind = "with boxes" if recipe.model.depth else "without boxes: from images and captions alone"
    columns = ("accuracy", "R@5", "merged R@1", "pointing", "absent AUROC", "phrases")
    metrics = {} if evaluation is None else evaluation.metrics
    return Card(
        title=f"Grounder of phrases, trained on {recipe.data.table}",
        summary=f"trained {kind}",
        data=[
            f"{num_train:,} images trained ({table.info.get('licence') or 'licence not recorded'}).",
            f"Held out: {', '.join(recipe.data.test.sources)}.",
        ],
        measured_on=f"at most {recipe.data.max_measured} images of each held-out source",
        figures=figure_table("source", metrics, columns),
        limits=["It knows the words and the kinds of pictures of its table, and no others."],
    )
