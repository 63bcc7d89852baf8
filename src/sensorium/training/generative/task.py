"""Training of multimodal language models: from a recipe to model, batches, criterion, evaluation and card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.codecs import Codec
from sensorium.core.errors import CheckpointError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections import open_table
from sensorium.data.table.vectors import Ragged
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM, MultimodalLMConfig
from sensorium.models.prompts import DECODER_OF
from sensorium.models.prompts import Task as TaskName
from sensorium.training.card import Card, figure_list
from sensorium.training.generative.batches import Collator, TaskData, mixed_batches
from sensorium.training.generative.build import build_multimodal, learn_extensions
from sensorium.training.generative.evaluate import evaluate
from sensorium.training.generative.examples import media_of, rows_for
from sensorium.training.generative.recipe import GenerativeRecipe, NextId, TaskConfig
from sensorium.training.generative.token_cache import cached_codes, cached_tokens
from sensorium.training.task import Evaluation, Task
from sensorium.training.validation import check_rows, divide

_COMMANDS: Mapping[TaskName, str] = {
    "ask": 'ask IMAGE "a question"',
    "caption": "caption IMAGE",
    "transcribe": "transcribe AUDIO",
    "text": 'ask "a question"',
    "translate": 'translate "a text" --to CODE',
    "draw": 'draw "a text" -o out.png',
    "speak": 'speak "a text" -o out.wav',
}
"""Command that uses a model for each task."""


def prepare_generative(recipe: GenerativeRecipe, progress: Progress = quiet) -> Task:
    """Prepare the training of a multimodal language model.

    Raises:
        ConfigError: If a table does not hold what its task needs.
        TrainingError: If nothing trains or nothing is held out.
    """
    tasks = [open_task(one, recipe.seed, progress) for one in recipe.data.tasks]
    codecs = open_codecs(recipe.model)
    model, pretrained = build_multimodal(recipe, tasks, codecs)
    collator, data = Collator(model, recipe.data.pack), recipe.data
    tasks = [with_caches(one, model, codecs, collator.failures, progress) for one in tasks]
    learn_extensions(model, tasks, progress)
    return Task(
        recipe=recipe,
        model=model,
        batches=mixed_batches(tasks, collator, batch_size=recipe.train.batch_size, seed=recipe.seed),
        criterion=NextId(recipe.smoothing),
        data={"tables": {f"{n}.{one.config.table}": _digest(one) for n, one in enumerate(tasks)}},
        evaluate=lambda trained: evaluate(trained, tasks, data.max_measured, data.max_written),
        describe=lambda evaluation: describe(recipe, model, tasks, evaluation),
        failures=lambda: collator.failures,
        pretrained=pretrained,
        next_step=f"sensorium {_COMMANDS[data.tasks[0].task]} --model {{run}}",
    )


def open_task(config: TaskConfig, seed: int, progress: Progress = quiet) -> TaskData:
    """Open a task's table and divide its rows.

    Raises:
        ConfigError: If the table does not hold what the task needs, or a source to hold out does not occur.
        TrainingError: If nothing trains, or nothing is held out.
    """
    table = open_table(config.table, progress)
    train, test = divide(table, config.test, seed)
    usable = rows_for(config.task, table)
    held_out = {name: np.intersect1d(rows, usable) for name, rows in test.items()}
    data = TaskData(config, table, np.intersect1d(train, usable), held_out)
    check_rows(f"task '{config.task}' over {config.table}", data.train, data.test)
    data.check_types()
    return data


def open_codecs(config: MultimodalLMConfig) -> dict[str, Codec[Any]]:
    """Load the codecs that image and audio decoders name, by modality.

    Raises:
        NotFoundError: If one does not exist; `sensorium train codec-image` makes it.
        CheckpointError: If it is not a codec of that modality.
    """
    found: dict[str, Codec[Any]] = {}
    for name, decoder in config.decoders.items():
        if decoder.codec:
            codec = load(Path(decoder.codec).expanduser())
            if not isinstance(codec, Codec) or codec.modality != name:
                raise CheckpointError(f"{decoder.codec} holds no codec of {name}; train one: codec-{name}")
            found[name] = codec
    return found


def with_caches(
    data: TaskData,
    model: MultimodalLM,
    codecs: Mapping[str, Codec[Any]],
    failures: dict[str, str],
    progress: Progress = quiet,
) -> TaskData:
    """Add the outputs of frozen encoders and the codec ids of a task's rows, cached in the table.

    Args:
        data: The task.
        model: Has the encoders.
        codecs: By modality.
        failures: Filled with the rows that cannot be read, and the reason.
        progress: Told of the rows.
    """
    config, table = data.config, data.table
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
    failures |= {f"{row} ({table.ids[row]} in {config.table})": reason for row, reason in failed}
    return replace(data, tokens=tokens, codes=codes)


def _digest(data: TaskData) -> str:
    return hashlib.sha256("".join(data.table.ids).encode()).hexdigest()[:16]


def describe(
    recipe: GenerativeRecipe,
    model: MultimodalLM,
    tasks: Sequence[TaskData],
    evaluation: Evaluation | None,
) -> Card:
    """Texts of the card."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lines = []
    for one in tasks:
        licence = one.table.info.get("licence") or "licence not recorded"
        held_out = ", ".join(f"{name} ({len(rows):,})" for name, rows in one.test.items())
        lines.append(
            f"{one.config.task} over {one.config.table}: {len(one.train):,} rows trained ({licence}); "
            f"held out: {held_out}."
        )
    return Card(
        title=f"Multimodal language model: {', '.join(model.sources)} in; {', '.join(model.decoders)} out",
        summary=f"{trained:,} trained parameters",
        data=lines,
        measured_on=f"at most {recipe.data.max_measured} rows of each",
        figures=figure_list({} if evaluation is None else evaluation.metrics),
        limits=["It knows the words, the pictures and the sounds of its tables, and no others."],
    )
