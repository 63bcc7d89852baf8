"""Train a grounder from a recipe: a table with regions in, a run's folder with a measured model out.

Composes `training` with `evals`, as `tasks.train` does for joint embeddings; the loop is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from sensorium import __version__
from sensorium.codecs.bpe import train_bpe
from sensorium.core.config import to_toml
from sensorium.core.errors import ConfigError, MediaError, TrainingError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.evals.grounding import Grounded, grounding_metrics
from sensorium.grounding.batches import PreparedImage, RegionBatches, prepare_row
from sensorium.grounding.predict import Detection, locate
from sensorium.models.grounder import Grounder, GrounderConfig, PartConfig
from sensorium.training.corpus import open_table
from sensorium.training.grounding.criterion import Grounding, GroundingRecipe
from sensorium.training.log import Figures
from sensorium.training.loop import Evaluation, Job, Outcome, fit
from sensorium.training.state import STATE

IMAGES_AT_ONCE = 32
TYPES = "types"
"""Key of a row's metadata: the type of each region, in words, where the table's maker knows it."""


def train_grounder(
    recipe: GroundingRecipe, folder: Path, *, resume: bool = False, progress: Progress = quiet
) -> tuple[Outcome, int]:
    """Train a grounder.

    Returns:
        How the run ended, and how many rows could not be used.

    Raises:
        ConfigError: If the table has no such sources.
        TrainingError: If nothing trains or nothing is held out.
    """
    table = open_table(recipe.data.table, progress)
    train, test = _divide(table, recipe)
    model = build_grounder(recipe, table, train)
    batches = RegionBatches(
        table,
        train,
        model,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        texts_per_image=recipe.data.texts_per_image,
    )
    if not (folder / STATE).exists():
        write_atomic(folder / "recipe.toml", to_toml(recipe.model_dump(mode="json", exclude_none=True)))
    limit = recipe.data.max_measured
    job = Job(
        model=model,
        batches=batches,
        loss=Grounding(recipe.box_weight, recipe.names_weight, recipe.places_step),
        train=recipe.train,
        seed=recipe.seed,
        folder=folder,
        identity={**recipe.model_dump(mode="json"), "table": _digest(table)},
        evaluate=lambda trained: evaluate(
            trained, table, {name: rows[:limit] for name, rows in test.items()}
        ),
        card=lambda found, step: card(recipe, model, table, len(train), found, step),
        progress=progress,
    )
    outcome = fit(job, resume=resume)
    if batches.failures:
        lines = (_failure(row, reason) for row, reason in sorted(batches.failures.items()))
        write_atomic(folder / "errors.jsonl", "".join(lines))
    return outcome, len(batches.failures)


def build_grounder(recipe: GroundingRecipe, table: Table, train: Sequence[int] | np.ndarray) -> Grounder:
    """Build the recipe's model as it starts; a tokenizer it lacks is trained on the training texts."""
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
    """Measure each held-out source; the score is the mean of their accuracies."""
    metrics: dict[str, Figures] = {}
    for name, rows in test.items():
        measured = [one for one, _ in measure_rows(model, table, rows)]
        metrics[name] = dict(grounding_metrics(measured))
    score = float(np.mean([found.get("accuracy", 0.0) for found in metrics.values()]))
    return Evaluation(score, "mean accuracy at IoU .5", metrics)


def measure_rows(
    model: Grounder, table: Table, rows: Sequence[int] | np.ndarray
) -> Iterator[tuple[Grounded, str]]:
    """Find every phrase of some rows, and yield it beside the truth, with its type ("" where unknown)."""
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


def _divide(table: Table, recipe: GroundingRecipe) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows that train, and the held-out rows of each source; only rows that hold what is needed."""
    sources = np.array(table.column("source"))
    asked = recipe.data.test.sources
    unknown = set(asked) - set(sources.tolist())
    if unknown:
        known = ", ".join(sorted(set(sources.tolist())))
        raise ConfigError(f"data.test.source: no row has source '{min(unknown)}'; known: {known}")
    has_regions = np.array([bool(regions) for regions in table.column("regions")])
    needed = (
        has_regions
        if recipe.data.texts_per_image
        else np.isin(np.arange(len(table)), table.rows_with("text"))
    )
    train = np.flatnonzero(~np.isin(sources, asked) & needed)
    test = {name: np.flatnonzero((sources == name) & has_regions) for name in asked}
    if len(train) == 0 or not all(len(rows) for rows in test.values()):
        counts = ", ".join(f"{name} {len(rows)}" for name, rows in test.items())
        raise TrainingError(
            f"{recipe.data.table}: {len(train)} rows with phrases train, held out: {counts}; each needs some"
        )
    return train, test


def _digest(table: Table) -> str:
    return hashlib.sha256("".join(table.ids).encode()).hexdigest()[:16]


def _texts(table: Table, rows: Sequence[int] | np.ndarray) -> Iterator[str]:
    for sample in table.rows(rows, columns=["texts", "regions"]):
        yield from (caption.text for caption in sample.texts)
        yield from dict.fromkeys(region.text for region in sample.regions)


def _failure(row: int, reason: str) -> str:
    return json.dumps({"row": row, "stage": "train", "reason": reason}, ensure_ascii=False) + "\n"


def card(
    recipe: GroundingRecipe,
    model: Grounder,
    table: Table,
    num_train: int,
    found: Evaluation | None,
    step: int,
) -> str:
    """The card of a trained grounder, in Markdown."""
    kind = "with boxes" if recipe.model.depth else "without boxes: from images and captions alone"
    parts = [f"# Grounder of phrases, trained on {recipe.data.table}", ""]
    parts += [
        f"Made by sensorium {__version__}, {datetime.now(UTC):%Y-%m-%d}; trained {kind}.",
        "",
        "## Data",
        "",
    ]
    parts += [f"- {num_train:,} images trained ({table.info.get('licence') or 'licence not recorded'})."]
    parts += [f"- Held out: {', '.join(recipe.data.test.sources)}.", "", "## Recipe", "", "```toml"]
    parts += [to_toml(recipe.model_dump(mode="json", exclude_none=True)).strip(), "```", ""]
    parts += [
        f"## Figures on at most {recipe.data.max_measured} images of each held-out source, step {step}",
        "",
    ]
    names = ("accuracy", "R@5", "merged R@1", "pointing", "absent AUROC", "phrases")
    parts += [f"| source | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for name, figures in ({} if found is None else found.metrics).items():
        cells = [_cell(figures.get(key)) for key in names]
        parts.append(f"| {name} | {' | '.join(cells)} |")
    parts += [
        "",
        "## Limits",
        "",
        "- It knows the words and the kinds of pictures of its table, and no others.",
        "",
    ]
    return "\n".join(parts)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
