"""Train a codec from a recipe: tables of pictures or sounds in, a run's folder with a measured model out.

Composes `training` with `evals`, as `tasks.train` does for joint embeddings; the loop is the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from sensorium import __version__
from sensorium.codecs import CODECS, AudioFsq, ImageFsq
from sensorium.codecs.audio_fsq import FLOOR, HOP, RATE_HZ
from sensorium.codecs.image_fsq import to_bytes
from sensorium.core.config import to_toml
from sensorium.core.errors import ConfigError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.data.transforms.audio import audio_of
from sensorium.evals.reconstruction import code_usage, mel_distance, psnr, ssim
from sensorium.media.types import Media
from sensorium.training.codec.batches import PictureBatches, Sound, SoundBatches, to_picture, to_signal
from sensorium.training.codec.data import Shelf, fill_shelf
from sensorium.training.codec.recipe import CodecRecipe, PictureFidelity, SoundFidelity
from sensorium.training.log import Figures
from sensorium.training.loop import Batches, Evaluate, Evaluation, Job, Outcome, fit
from sensorium.training.embedding.criterion import Criterion
from sensorium.training.state import STATE

T = TypeVar("T")
TRAINED = ("image-fsq", "audio-fsq")
_AT_ONCE = 64


def train_codec(
    recipe: CodecRecipe, folder: Path, *, resume: bool = False, progress: Progress = quiet
) -> tuple[Outcome, int]:
    """Train a codec.

    Returns:
        How the run ended, and how many media could not be used.

    Raises:
        ConfigError: If the recipe's parts are not of the codec's modality, or its options do not fit.
        TrainingError: If nothing trains or nothing is held out.
    """
    model = build_codec(recipe)
    prepare = _prepare_pictures if isinstance(model, ImageFsq) else _prepare_sounds
    shelf, batches, loss, evaluate = prepare(recipe, cast(Any, model), progress)
    if not (folder / STATE).exists():
        write_atomic(folder / "recipe.toml", to_toml(recipe.model_dump(mode="json", exclude_none=True)))
    job = Job(
        model=model,
        batches=batches,
        loss=loss,
        train=recipe.train,
        seed=recipe.seed,
        folder=folder,
        identity={**recipe.model_dump(mode="json"), "media": shelf.digest},
        evaluate=evaluate,
        name_rows=shelf.name_rows,
        card=lambda found, step: card(recipe, model, shelf, found, step),
        progress=progress,
    )
    outcome = fit(job, resume=resume)
    if shelf.failures:
        lines = (_failure(row, why) for row, why in shelf.failures.items())
        write_atomic(folder / "errors.jsonl", "".join(lines))
    return outcome, len(shelf.failures)


def build_codec(recipe: CodecRecipe) -> ImageFsq | AudioFsq:
    """Build the recipe's codec as it starts.

    Raises:
        ConfigError: If it is not one that is trained so, or a part's field is not of its modality.
    """
    if recipe.model.codec not in TRAINED:
        known = ", ".join(TRAINED)
        raise ConfigError(f"codec '{recipe.model.codec}' is not trained by this recipe; known: {known}")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = CODECS.build(recipe.model.codec, **recipe.model.options)
    assert isinstance(model, ImageFsq | AudioFsq)
    for part in recipe.data.parts.values():
        if (part.field == "image") != (model.modality == "image"):
            raise ConfigError(
                f"data.parts: '{part.field}' of {part.table} is nothing for an {model.modality} codec"
            )
    return model


Prepared = tuple[Shelf[Any], Batches, Criterion, Evaluate]
"""What a modality brings to the loop."""


def _prepare_pictures(recipe: CodecRecipe, model: ImageFsq, progress: Progress) -> Prepared:
    shelf = fill_shelf(
        recipe.data.parts, recipe.seed, lambda medium: to_picture(model.input(medium)), progress
    )
    batches = PictureBatches(
        shelf.items,
        shelf.train,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        flip=recipe.data.flip,
        shift_px=recipe.data.shift_px,
    )
    limit = recipe.data.max_measured
    return (
        shelf,
        batches,
        PictureFidelity(recipe.loss),
        lambda trained: evaluate_pictures(trained, shelf, limit),
    )


def _prepare_sounds(recipe: CodecRecipe, model: AudioFsq, progress: Progress) -> Prepared:
    shelf = fill_shelf(recipe.data.parts, recipe.seed, lambda medium: to_sound(model, medium), progress)
    stride = model.config.stride
    batches = SoundBatches(
        shelf.items,
        shelf.train,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        num_frames=stride * max(1, round(recipe.data.crop_s * model.rate)),
        gain_db=recipe.data.gain_db,
    )
    limit = recipe.data.max_measured
    return shelf, batches, SoundFidelity(recipe.loss), lambda trained: evaluate_sounds(trained, shelf, limit)


def to_sound(model: AudioFsq, medium: Media) -> Sound:
    """A sound as it is kept for training.

    Raises:
        UsageError: If there is none.
    """
    samples = audio_of(medium).mono(RATE_HZ)
    frames = model.frames(samples)
    whole = np.zeros(len(frames) * HOP, np.float32)
    whole[: len(samples)] = samples[: len(whole)]
    return Sound(np.round(whole.clip(-1, 1) * 32767).astype(np.int16), frames.astype(np.float16))


def evaluate_pictures(model: ImageFsq, shelf: Shelf[UInt8[np.ndarray, "3 S S"]], limit: int) -> Evaluation:
    """Measure at most `limit` held-out pictures of each part; the score is the mean of their PSNRs."""
    metrics: dict[str, Figures] = {}
    every: list[np.ndarray] = []
    for name, places in shelf.test.items():
        pictures = np.stack([shelf.items[place] for place in spread_out(places, limit)])
        ids, painted = reconstruct(model, pictures)
        pairs = list(zip(pictures.transpose(0, 2, 3, 1), painted, strict=True))
        metrics[name] = {
            "PSNR": float(np.mean([psnr(a, b) for a, b in pairs])),
            "SSIM": float(np.mean([ssim(a, b) for a, b in pairs])),
            "pictures": len(pairs),
        }
        every.append(ids.ravel())
    metrics["all"] = code_usage(np.concatenate(every), model.vocab_size)
    score = float(np.mean([found["PSNR"] for found in metrics.values() if "PSNR" in found]))
    return Evaluation(score, "mean PSNR in dB", metrics)


def evaluate_sounds(model: AudioFsq, shelf: Shelf[Sound], limit: int) -> Evaluation:
    """Measure at most `limit` held-out sounds of each part; the score is the mean mel distance, negative."""
    metrics: dict[str, Figures] = {}
    every: list[np.ndarray] = []
    for name, places in shelf.test.items():
        sounds = [shelf.items[place] for place in spread_out(places, limit)]
        apart = []
        for sound in sounds:
            frames = sound.frames.astype(np.float32)
            ids = encode_frames(model, frames)
            given = model.frames(model.decode(ids).samples[:, 0])
            apart.append(mel_distance(frames, given, floor=FLOOR))
            every.append(ids)
        metrics[name] = {"mel distance": float(np.mean(apart)), "sounds": len(sounds)}
    metrics["all"] = code_usage(np.concatenate(every), model.vocab_size)
    distances = [found["mel distance"] for found in metrics.values() if "mel distance" in found]
    return Evaluation(-float(np.mean(distances)), "mel distance in dB, negative", metrics)


@torch.inference_mode()
def encode_frames(model: AudioFsq, frames: np.ndarray) -> np.ndarray:
    """Ids of one sound's frames."""
    found = model.encode_frames(torch.from_numpy(frames)[None].to(model.norm.weight.device))
    ids: np.ndarray = found[0].cpu().numpy()
    return ids


@torch.inference_mode()
def reconstruct(
    model: ImageFsq, pictures: UInt8[np.ndarray, "n 3 S S"]
) -> tuple[np.ndarray, UInt8[np.ndarray, "n S S 3"]]:
    """Ids of pictures that fit already, and what is painted from them."""
    ids, painted = [], []
    device = model.last.weight.device
    for start in range(0, len(pictures), _AT_ONCE):
        found = model.encode_pixels(to_signal(pictures[start : start + _AT_ONCE]).to(device))
        ids.append(found.cpu().numpy())
        painted.append(to_bytes(model.decode_ids(found)))
    return np.concatenate(ids), np.concatenate(painted)


def spread_out(places: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of some things, evenly from first to last.

    Example:
        >>> spread_out(range(10), 4)
        [0, 3, 6, 9]
    """
    if len(places) <= limit:
        return list(places)
    return [places[round(at)] for at in np.linspace(0, len(places) - 1, limit)]


def card(recipe: CodecRecipe, model: nn.Module, shelf: Shelf[T], found: Evaluation | None, step: int) -> str:
    """The card of a trained codec, in Markdown."""
    num = sum(parameter.numel() for parameter in model.parameters())
    parts = [f"# Codec {recipe.model.codec}: media as ids", ""]
    parts += [
        f"Made by sensorium {__version__}, {datetime.now(UTC):%Y-%m-%d}; {num / 1e6:.2f} M parameters.",
        "",
    ]
    tables = ", ".join(f"{part.table} ({part.field})" for part in recipe.data.parts.values())
    parts += [
        "## Data",
        "",
        f"- {len(set(shelf.train)):,} media of {tables}; their licences are the tables'.",
    ]
    parts += ["", "## Recipe", "", "```toml"]
    parts += [to_toml(recipe.model_dump(mode="json", exclude_none=True)).strip(), "```", ""]
    parts += [
        f"## Figures on at most {recipe.data.max_measured} held-out media of each part, step {step}",
        "",
    ]
    for name, figures in ({} if found is None else found.metrics).items():
        parts.append(f"- {name}: {', '.join(f'{key} {value:.4g}' for key, value in figures.items())}")
    limits = "It keeps what its tables are like: photographs, or voices unlike theirs, come out poorly."
    return "\n".join([*parts, "", "## Limits", "", f"- {limits}", ""])


def _failure(row: str, reason: str) -> str:
    return json.dumps({"row": row, "stage": "train", "reason": reason}, ensure_ascii=False) + "\n"
