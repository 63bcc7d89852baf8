"""A job over synthetic features, small enough to run in milliseconds a step."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from sensorium.core.config import Config
from sensorium.core.runtime import Progress, quiet
from sensorium.data.loading.feature_loader import feature_batches
from sensorium.data.table.vectors import Ragged
from sensorium.models.checkpoint import read_tensors
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig
from sensorium.training.embedding.criterion import Contrast
from sensorium.training.loop import Outcome, fit
from sensorium.training.recipe import LossConfig, TrainConfig
from sensorium.training.task import Task

NUM_ROWS = 23


def features(seed: int = 0, num_rows: int = NUM_ROWS) -> dict[str, Ragged]:
    """Rows 0, 5, 10, ... have no audio; images have two views."""
    rng = np.random.default_rng(seed)
    has_audio = (np.arange(num_rows) % 5 != 0).astype(np.int64)
    image = rng.standard_normal((num_rows, 1, 32)) + 0.1 * rng.standard_normal((num_rows, 2, 32))
    return {
        "image": Ragged(image.reshape(-1, 32).astype(np.float32), 2 * np.arange(num_rows + 1)),
        "audio": Ragged(
            rng.standard_normal((int(has_audio.sum()), 12)).astype(np.float32),
            np.concatenate([[0], np.cumsum(has_audio)]),
        ),
    }


def model(**options: Any) -> JointEmbedding:
    head = {"head": "residual-mlp", "head_options": {"width": 17, "dropout": 0.2}, "frozen": True}
    config = {
        "dim": 13,
        "towers": {
            "image": {"encoder": "image-vit", "options": {"width": 32, "depth": 1, "size_px": 8}, **head},
            "audio": {
                "encoder": "audio-cnn",
                "options": {"width": 3, "depths": [1], "dim": 12, "num_mels": 8},
                **head,
            },
        },
        **options,
    }
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return JointEmbedding(JointEmbeddingConfig.model_validate(config))


class SmallRecipe(Config):
    """What the loop reads of a recipe."""

    seed: int = 2
    train: TrainConfig


def task(*, data: dict[str, Ragged] | None = None, loss: str = "info_nce", **options: Any) -> Task:
    """A task; `options` of the training section and of `Task` together."""
    of_task = {name: options.pop(name) for name in ("model", "evaluate", "identity") if name in options}
    defaults = {"steps": 17, "batch_size": 7, "lr": 3e-3, "save_every": 3, "log_every": 2, "device": "cpu"}
    train = TrainConfig.model_validate({**defaults, "tensorboard": False, **options})
    data = features() if data is None else data
    num_rows = len(data["image"])
    pairs = [{"a": "image", "b": "audio"}]
    return Task(
        recipe=SmallRecipe(train=train),
        model=of_task.pop("model", None) or model(),
        batches=feature_batches(data, np.arange(num_rows), batch_size=train.batch_size, seed=2),
        criterion=Contrast(LossConfig.model_validate({"kind": loss, "pairs": pairs})),
        data=of_task.pop("identity", {}),
        **of_task,
    )


def run(folder: Path, *, resume: bool = False, progress: Progress = quiet, **options: Any) -> Outcome:
    """Train a task."""
    return fit(task(**options), folder, resume=resume, progress=progress)


def digests(folder: Path) -> tuple[str, str]:
    """Checksums of all tensors of a run's model, and of its state: weights, averages, moments."""
    files = (folder / "model.safetensors", folder / "last" / "state.safetensors")
    return tuple(read_tensors(path) and safe_open(path, "pt").metadata()["sha256"] for path in files)
