"""Train a codec from a recipe: tables of pictures or sounds in, a run's folder with a measured model out.

Composes `training` with `evals`, as `tasks.train` does for joint embeddings; the loop is the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from sensorium import __version__
from sensorium.codecs import CODECS, ImageFsq
from sensorium.codecs.image_fsq import to_bytes
from sensorium.core.config import to_toml
from sensorium.core.errors import ConfigError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.evals.reconstruction import code_usage, psnr, ssim
from sensorium.training.codec import CodecRecipe, PictureFidelity
from sensorium.training.codec_batches import PictureBatches, to_picture, to_signal
from sensorium.training.codec_data import Shelf, fill_shelf
from sensorium.training.log import Figures
from sensorium.training.loop import Evaluation, Job, Outcome, fit
from sensorium.training.state import STATE

T = TypeVar("T")
TRAINED = ("image-fsq",)
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
    job, failures = _picture_job(recipe, model, folder, progress)
    if not (folder / STATE).exists():
        write_atomic(folder / "recipe.toml", to_toml(recipe.model_dump(mode="json", exclude_none=True)))
    outcome = fit(job, resume=resume)
    if failures:
        lines = (json.dumps({"row": row, "stage": "train", "reason": why}) for row, why in failures.items())
        write_atomic(folder / "errors.jsonl", "".join(f"{line}\n" for line in lines))
    return outcome, len(failures)


def build_codec(recipe: CodecRecipe) -> ImageFsq:
    """Build the recipe's codec as it starts.

    Raises:
        ConfigError: If it is not one that is trained so, or a part's field is not of its modality.
    """
    if recipe.model.codec not in TRAINED:
        known = ", ".join(TRAINED)
        raise ConfigError(f"codec '{recipe.model.codec}' is not trained by this recipe; known: {known}")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = cast(ImageFsq, CODECS.build(recipe.model.codec, **recipe.model.options))
    for part in recipe.data.parts.values():
        if (part.field == "image") != (model.modality == "image"):
            raise ConfigError(
                f"data.parts: '{part.field}' of {part.table} is nothing for an {model.modality} codec"
            )
    return model


def _picture_job(
    recipe: CodecRecipe, model: ImageFsq, folder: Path, progress: Progress
) -> tuple[Job, dict[str, str]]:
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
    job = Job(
        model=model,
        batches=batches,
        loss=PictureFidelity(recipe.loss),
        train=recipe.train,
        seed=recipe.seed,
        folder=folder,
        identity={**recipe.model_dump(mode="json"), "media": shelf.digest},
        evaluate=lambda trained: evaluate_pictures(trained, shelf, recipe.data.max_measured),
        name_rows=shelf.name_rows,
        card=lambda found, step: card(recipe, model, shelf, found, step),
        progress=progress,
    )
    return job, shelf.failures


def evaluate_pictures(model: ImageFsq, shelf: Shelf[UInt8[np.ndarray, "3 S S"]], limit: int) -> Evaluation:
    """Measure at most `limit` held-out pictures of each part; the score is the mean of their PSNRs."""
    metrics: dict[str, Figures] = {}
    every: list[np.ndarray] = []
    for name, places in shelf.test.items():
        some = spread_out(places, limit)
        pictures = np.stack([shelf.items[place] for place in some])
        ids, painted = reconstruct(model, pictures)
        given = pictures.transpose(0, 2, 3, 1)
        pairs = list(zip(given, painted, strict=True))
        metrics[name] = {
            "PSNR": float(np.mean([psnr(a, b) for a, b in pairs])),
            "SSIM": float(np.mean([ssim(a, b) for a, b in pairs])),
            "pictures": len(pairs),
        }
        every.append(ids.ravel())
    metrics["all"] = code_usage(np.concatenate(every), model.vocab_size)
    score = float(np.mean([found["PSNR"] for found in metrics.values() if "PSNR" in found]))
    return Evaluation(score, "mean PSNR in dB", metrics)


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


def spread_out(places: Sequence[int], limit: int) -> list[int]:
    """At most `limit` of some places, evenly from first to last.

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
