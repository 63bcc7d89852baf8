"""Train a multimodal language model from a recipe: tables in, a run's folder with a measured model out.

Composes `training` with `evals`, as `tasks.train` does for joint embeddings; the loop is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sensorium import __version__
from sensorium.codecs import Codec
from sensorium.core.config import to_toml
from sensorium.core.errors import CheckpointError, ConfigError, TrainingError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.data.loading.split import split
from sensorium.data.table.vectors import Ragged
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM, MultimodalLMConfig
from sensorium.models.prompts import DECODER_OF
from sensorium.training.corpus import open_table
from sensorium.training.generative.batches import Course, Lessons, Teacher
from sensorium.training.generative.build import build_multimodal, learn_extensions
from sensorium.training.generative.evaluate import evaluate
from sensorium.training.generative.examples import media_of, rows_for
from sensorium.training.generative.recipe import GenerativeRecipe, NextId, TaskConfig
from sensorium.training.loop import Evaluation, Job, Outcome, fit
from sensorium.training.recipe import HeldOut
from sensorium.training.shelves import cached_codes, cached_tokens
from sensorium.training.state import STATE


def train_generative(
    recipe: GenerativeRecipe, folder: Path, *, resume: bool = False, progress: Progress = quiet
) -> tuple[Outcome, int]:
    """Train a multimodal language model.

    Returns:
        How the run ended, and how many rows could not be used.

    Raises:
        ConfigError: If a table does not hold what its task needs.
        TrainingError: If nothing trains or nothing is held out.
    """
    courses = [open_course(one, recipe.seed, progress) for one in recipe.data.tasks]
    codecs = open_codecs(recipe.model)
    model, brought = build_multimodal(recipe, courses, codecs)
    teacher = Teacher(model, recipe.data.pack)
    courses = [fill_shelves(one, model, codecs, teacher.failures, progress) for one in courses]
    learn_extensions(model, courses, progress)
    if not (folder / STATE).exists():
        write_atomic(folder / "recipe.toml", to_toml(recipe.model_dump(mode="json", exclude_none=True)))
    tables = {f"{n}.{one.config.table}": _digest(one) for n, one in enumerate(courses)}
    job = Job(
        model=model,
        batches=Lessons(courses, teacher, batch_size=recipe.train.batch_size, seed=recipe.seed),
        loss=NextId(recipe.smoothing),
        train=recipe.train,
        seed=recipe.seed,
        folder=folder,
        identity={**recipe.model_dump(mode="json"), "tables": tables},
        evaluate=lambda trained: evaluate(
            trained, courses, recipe.data.max_measured, recipe.data.max_written
        ),
        card=lambda found, step: card(recipe, model, courses, found, step),
        progress=progress,
        brought=brought,
    )
    outcome = fit(job, resume=resume)
    if teacher.failures:
        lines = ({"row": row, "stage": "train", "reason": why} for row, why in teacher.failures.items())
        write_atomic(
            folder / "errors.jsonl", "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
        )
    return outcome, len(teacher.failures)


def open_course(config: TaskConfig, seed: int, progress: Progress = quiet) -> Course:
    """Open a task's table and divide its rows.

    Raises:
        ConfigError: If the table does not hold what the task needs, or a source to hold out does not occur.
        TrainingError: If nothing trains, or nothing is held out.
    """
    table = open_table(config.table, progress)
    if isinstance(config.test, HeldOut):
        sources = np.array(table.column("source"))
        unknown = set(config.test.sources) - set(sources.tolist())
        if unknown:
            known = ", ".join(sorted(set(sources.tolist())))
            raise ConfigError(f"data.test.source: no row has source '{min(unknown)}'; known: {known}")
        train = np.flatnonzero(~np.isin(sources, config.test.sources))
        test = {name: np.flatnonzero(sources == name) for name in config.test.sources}
    else:
        parts = split(table.groups, test=config.test, seed=seed)
        train, test = parts["train"], {"held out": parts["test"]}
    useful = rows_for(config.task, table)
    held_out = {name: np.intersect1d(rows, useful) for name, rows in test.items()}
    kept = Course(config, table, np.intersect1d(train, useful), held_out)
    if len(kept.train) == 0 or not all(len(rows) for rows in kept.test.values()):
        counts = ", ".join(f"{name} {len(rows)}" for name, rows in kept.test.items())
        raise TrainingError(
            f"task '{config.task}' over {config.table}: {len(kept.train)} rows train, held out: {counts}; "
            "each needs some"
        )
    kept.check_types()
    return kept


def open_codecs(config: MultimodalLMConfig) -> dict[str, Codec[Any]]:
    """The codecs that writers of images and sound name, by kind of output.

    Raises:
        NotFoundError: If one is not there; `sensorium train codec-image` makes it.
        CheckpointError: If it is no codec of that kind.
    """
    found: dict[str, Codec[Any]] = {}
    for name, writer in config.decoders.items():
        if writer.codec:
            codec = load(Path(writer.codec).expanduser())
            if not isinstance(codec, Codec) or codec.modality != name:
                raise CheckpointError(f"{writer.codec} holds no codec of {name}; train one: codec-{name}")
            found[name] = codec
    return found


def fill_shelves(
    course: Course,
    model: MultimodalLM,
    codecs: Mapping[str, Codec[Any]],
    failures: dict[str, str],
    progress: Progress = quiet,
) -> Course:
    """Compute what frozen encoders and codecs give for the rows of a course, or read it where it is known."""
    config, table = course.config, course.table
    tokens: dict[str, Ragged] = {}
    codes: Ragged | None = None
    failed: list[tuple[int, str]] = []
    field_of = {"audio": "speech"} if config.task == "transcribe" else {}
    for name, source in model.config.sources.items():
        field = field_of.get(name, name)
        if source.frozen and field in table.fields and name in media_of(config.task):
            tokens[name], missed = cached_tokens(
                table, field, model.source(name), source.encoder, config.languages, progress
            )
            failed += missed
    if config.task in ("draw", "speak"):
        field, codec = "image" if config.task == "draw" else "speech", codecs[DECODER_OF[config.task]]
        codes, missed = cached_codes(table, field, codec, config.languages, progress)
        failed += missed
    failures |= {f"{config.table} {row}": reason for row, reason in failed}
    return replace(course, tokens=tokens, codes=codes)


def _digest(course: Course) -> str:
    return hashlib.sha256("".join(course.table.ids).encode()).hexdigest()[:16]


def card(
    recipe: GenerativeRecipe,
    model: MultimodalLM,
    courses: Sequence[Course],
    found: Evaluation | None,
    step: int,
) -> str:
    """The card of a trained model, in Markdown."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    ways = f"{', '.join(model.sources)} in; {', '.join(model.decoders)} out"
    parts = [f"# Multimodal language model: {ways}", ""]
    parts += [
        f"Made by sensorium {__version__}, {datetime.now(UTC):%Y-%m-%d}; {trained:,} numbers trained.",
        "",
        "## Data",
        "",
    ]
    for one in courses:
        licence = one.table.info.get("licence") or "licence not recorded"
        held_out = ", ".join(f"{name} ({len(rows):,})" for name, rows in one.test.items())
        parts.append(
            f"- {one.config.task} over {one.config.table}: {len(one.train):,} rows trained ({licence}); "
            f"held out: {held_out}."
        )
    parts += ["", "## Recipe", "", "```toml"]
    parts += [to_toml(recipe.model_dump(mode="json", exclude_none=True)).strip(), "```", ""]
    parts += [f"## Figures on at most {recipe.data.max_measured} rows of each, step {step}", ""]
    for name, figures in ({} if found is None else found.metrics).items():
        shown = ", ".join(
            f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
            for key, value in figures.items()
        )
        parts.append(f"- {name}: {shown}.")
    parts += [
        "",
        "## Limits",
        "",
        "- It knows the words, the pictures and the sounds of its tables, and no others.",
        "",
    ]
    return "\n".join(parts)
