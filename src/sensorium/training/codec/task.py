"""Training of codecs: from a recipe to model, batches, criterion, reconstruction error and card."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sensorium.codecs import CODECS, AudioFsq, ImageFsq
from sensorium.codecs.audio_fsq import HOP, RATE_HZ
from sensorium.core.errors import ConfigError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.loading.order import Order
from sensorium.data.transforms.audio import audio_of
from sensorium.media.types import Media
from sensorium.training.card import Card, figure_list
from sensorium.training.codec.batches import Sound, audio_batches, image_batches, to_uint8
from sensorium.training.codec.criterion import Reconstruction, audio_terms, image_terms
from sensorium.training.codec.data import OpenedMedia, open_parts
from sensorium.training.codec.evaluate import evaluate_audio, evaluate_images
from sensorium.training.codec.recipe import CodecRecipe
from sensorium.training.task import Evaluation, Task

TRAINED = ("image-fsq", "audio-fsq")


def prepare_codec(recipe: CodecRecipe, progress: Progress = quiet) -> Task:
    """Prepare the training of a codec.

    Raises:
        ConfigError: If the recipe's parts are not of the codec's modality, or its options do not fit.
        TrainingError: If nothing trains or nothing is held out.
    """
    model, data = build_codec(recipe), recipe.data
    opened: OpenedMedia[Any] = open_parts(
        data.parts, recipe.seed, lambda medium: to_item(model, medium), progress
    )
    order = Order(np.asarray(opened.train, np.int64), recipe.train.batch_size, recipe.seed)
    if isinstance(model, ImageFsq):
        batches = image_batches(opened.items, order, flip=data.flip, shift_px=data.shift_px)
    else:
        stride = model.config.stride
        num_frames = stride * max(1, round(data.crop_s * model.rate))
        batches = audio_batches(opened.items, order, num_frames=num_frames, gain_db=data.gain_db)
    is_image = isinstance(model, ImageFsq)
    evaluate: Any = evaluate_images if is_image else evaluate_audio
    return Task(
        recipe=recipe,
        model=model,
        batches=batches,
        criterion=Reconstruction(recipe.loss, image_terms if is_image else audio_terms),
        data={"media": opened.digest},
        evaluate=lambda trained: evaluate(trained, opened, data.max_measured),
        describe=lambda evaluation: describe(recipe, model, opened, evaluation),
        name_rows=opened.name_rows,
        failures=lambda: opened.failures,
        next_step="sensorium.load('{run}').encode(sensorium.open(FILE))",
    )


def build_codec(recipe: CodecRecipe) -> ImageFsq | AudioFsq:
    """Build the recipe's codec with its initial weights.

    Raises:
        ConfigError: If no recipe trains this codec, or the field of a part is not of its modality.
    """
    if recipe.model.codec not in TRAINED:
        known = ", ".join(TRAINED)
        raise ConfigError(f"codec '{recipe.model.codec}' is not trained by a recipe; known: {known}")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = CODECS.build(recipe.model.codec, **recipe.model.options)
    assert isinstance(model, ImageFsq | AudioFsq)
    for part in recipe.data.parts.values():
        if (part.field == "image") != (model.modality == "image"):
            raise ConfigError(
                f"data.parts: '{part.field}' of {part.table} does not fit an {model.modality} codec"
            )
    return model


def to_item(model: ImageFsq | AudioFsq, medium: Media) -> np.ndarray | Sound:
    """A medium as it is kept in memory.

    Raises:
        UsageError: If it is not of the codec's modality.
    """
    if isinstance(model, ImageFsq):
        return to_uint8(model.input(medium))
    samples = audio_of(medium).mono(RATE_HZ)
    frames = model.frames(samples)
    whole = np.zeros(len(frames) * HOP, np.float32)
    whole[: len(samples)] = samples[: len(whole)]
    return Sound(np.round(whole.clip(-1, 1) * 32767).astype(np.int16), frames.astype(np.float16))


def describe(
    recipe: CodecRecipe,
    model: ImageFsq | AudioFsq,
    opened: OpenedMedia[Any],
    evaluation: Evaluation | None,
) -> Card:
    """Texts of the card."""
    num = sum(parameter.numel() for parameter in model.parameters())
    tables = ", ".join(f"{part.table} ({part.field})" for part in recipe.data.parts.values())
    return Card(
        title=f"Codec {recipe.model.codec}: media as ids",
        summary=f"{num / 1e6:.2f} M parameters",
        data=[f"{len(set(opened.train)):,} media of {tables}; their licences are the tables'."],
        measured_on=f"at most {recipe.data.max_measured} held-out media of each part",
        figures=figure_list({} if evaluation is None else evaluation.metrics, ".4g"),
        limits=["It suits media like those of its tables; photographs, or other voices, come out poorly."],
    )
