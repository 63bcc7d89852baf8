"""A recipe: everything that decides a training run, read from TOML and changed by `--set`.

Sections: [data] which rows, [model] which towers, [loss] which fields are drawn together, [train] how. Does
not know where the result goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sensorium.core.config import Config, override, parse, read_toml
from sensorium.core.files import shipped_dir
from sensorium.core.runtime import Precision
from sensorium.models.joint_embedding import JointEmbeddingConfig

FieldName = Literal["image", "text", "audio", "speech", "video"]


class HeldOut(Config):
    """Hold out whole sources, such as a vendor; their captions may also occur in training rows."""

    source: str | list[str]

    @property
    def sources(self) -> list[str]:
        """The names."""
        return [self.source] if isinstance(self.source, str) else self.source


def _is_share(test: float | HeldOut) -> float | HeldOut:
    if isinstance(test, float) and not 0 < test < 1:
        raise ValueError(f"test={test} is not a share between 0 and 1")
    return test


Test = Annotated[float | HeldOut, AfterValidator(_is_share)]
"""Rows to hold out: a share of the groups, or whole sources."""


class DataConfig(Config):
    """Which rows.

    Attributes:
        table: Name of a packaged table (stamps, clipart, emoji, translations), or a path.
        extra: Further tables of which every row trains, but for those whose caption is held out.
        repeat: Times that each row of `table` comes in an epoch, so that extra rows do not drown it.
        test: Share of the groups held out, or the sources.
        fields: Which fields; empty: all that the table holds and the model has a tower for.
        languages: Of texts and speech: `en`, `en*`, `speech:fr` (see `data.sample.asked_of`); empty: all.
        captions: Which of a row's captions train: a random one in each epoch, or always the first.
        views: Views of an image cached for a locked tower: itself, then views - 1 crops.
        extra_views: The same for images of the extra tables.
        class_vectors: Add the image tower's own class vectors, paired with class names, as training rows.
        blend: Chance that a picture is blended with another of its group in training (`data.blend`); 0 never.
        vocab_size: Of the byte-pair tokenizer trained on the training texts for text towers that have none.
    """

    table: str
    extra: list[str] = Field(default_factory=list)
    repeat: int = Field(default=1, ge=1)
    test: Test = 0.2
    fields: list[FieldName] = Field(default_factory=list)
    languages: list[str] = Field(default_factory=lambda: ["en"])
    captions: Literal["random", "first"] = "random"
    views: int = Field(default=1, ge=1)
    extra_views: int = Field(default=1, ge=1)
    class_vectors: bool = False
    blend: float = Field(default=0.0, ge=0, le=1)
    vocab_size: int = Field(default=2048, ge=260)


class PairConfig(Config):
    """Two fields of a row to be drawn together."""

    a: FieldName
    b: FieldName
    weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _two_fields(self) -> PairConfig:
        if self.a == self.b:
            raise ValueError(f"a and b are both '{self.a}'; name two fields")
        return self


class LossConfig(Config):
    """What is minimised: sum over pairs of weight x loss.

    Attributes:
        kind: Registered name.
        pairs: Fields drawn together; empty: every two fields that rows of the table hold together.
        memory: Rows of earlier steps that a batch is compared with, too: more negatives at hardly more cost.
        smoothing: Share of what a row should find that is spread over all it is compared with.
    """

    kind: str = "info_nce"
    pairs: list[PairConfig] = Field(default_factory=list)
    memory: int = Field(default=0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _softmax(self) -> LossConfig:
        if self.kind != "info_nce" and (self.memory or self.smoothing):
            raise ValueError(
                f"memory and smoothing are of kind 'info_nce'; leave them out with '{self.kind}'"
            )
        return self


class TrainConfig(Config):
    """How.

    Attributes:
        epochs: Passes over the training rows; or
        steps: Number of steps.
        batch_size: Rows in a step.
        lr: Learning rate after the warm-up.
        unlocked_rate: Factor of `lr` for what was trained before: unlocked blocks of a locked encoder,
            and what the run that `start` names brought along.
        start_share: Share of what `start` brought along in the weights that are kept; the rest is their
            moving average. What is learned last then costs less of what was known.
        weight_decay: AdamW's, on matrices alone.
        beta1: AdamW's.
        beta2: AdamW's.
        eps: AdamW's.
        warmup: Steps, or a share of the run where below 1.
        clip_norm: Largest norm of the gradient; 0 does not clip.
        ema: Decay of the moving average that is evaluated and kept; 0 keeps the weights themselves.
        precision: fp32, or bf16 by autocast.
        device: auto, cpu, cuda, ...
        eval_every: Steps between evaluations; 0: after the last step only.
        save_every: Steps between saved states; 0: at each evaluation and every half minute.
        keep: Which averaged weights become the model: the last, or those that scored best on held-out rows.
        log_every: Steps between lines of the log.
        workers: Decoding processes, where media are decoded in training.
        cache_mb: Megabytes of opened media that each of these processes keeps, to open them once and not anew
            in each epoch.
        augment: Draw random views where media are decoded in training.
        tensorboard: Write TensorBoard events beside `log.jsonl`.
    """

    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=256, ge=2)
    lr: float = Field(default=1e-3, gt=0)
    unlocked_rate: float = Field(default=0.1, gt=0)
    start_share: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.98, ge=0, lt=1)
    eps: float = Field(default=1e-6, gt=0)
    warmup: float = Field(default=0.1, ge=0)
    clip_norm: float = Field(default=1.0, ge=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    precision: Precision = "fp32"
    device: str = "auto"
    eval_every: int = Field(default=0, ge=0)
    save_every: int = Field(default=0, ge=0)
    keep: Literal["last", "best"] = "last"
    log_every: int = Field(default=10, ge=1)
    workers: int = Field(default=0, ge=0)
    cache_mb: int = Field(default=0, ge=0)
    augment: bool = True
    tensorboard: bool = True

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give one of epochs and steps")
        return self


class Recipe(Config):
    """A training run.

    Attributes:
        seed: Names every random choice: split, initial weights, order, dropout.
        data: Which rows.
        model: Which towers.
        loss: Which fields are drawn together.
        train: How.
    """

    seed: int = Field(default=0, ge=0)
    data: DataConfig
    model: JointEmbeddingConfig
    loss: LossConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _pairs_have_towers(self) -> Recipe:
        from sensorium.core.types import MODALITY_OF

        for name in (name for pair in self.loss.pairs for name in (pair.a, pair.b)):
            if MODALITY_OF[name] not in self.model.towers:
                raise ValueError(
                    f"loss.pairs names '{name}', but there is no [model.towers.{MODALITY_OF[name]}]"
                )
            if self.data.fields and name not in self.data.fields:
                raise ValueError(f"loss.pairs names '{name}', which is not among data.fields")
        return self


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `a.b=c` changes.

    Args:
        path: A TOML file, or the name of one that comes with sensorium (`stamps`).
        changes: As in `--set train.lr=0.001`.

    Raises:
        NotFoundError: If there is no such file.
        ConfigError: If it does not parse; one line names every wrong key.
    """
    file = find_recipe(str(path))
    return parse(Recipe, override(read_toml(file), changes), str(path))


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a path, or a name among the recipes that come with sensorium."""
    given = Path(name)
    packaged = recipes_dir() / f"{name}.toml"
    return packaged if not given.exists() and packaged.is_file() else given


def recipes_dir() -> Path:
    """Folder of the recipes: inside the installed package, or `recipes/` of a checkout."""
    return shipped_dir("recipes")


def differences(old: Mapping[str, object], new: Mapping[str, object], path: str = "") -> list[str]:
    """Dotted names of the keys on which two nested mappings differ.

    Example:
        >>> differences({"seed": 0, "train": {"lr": 1, "ema": 0}}, {"seed": 0, "train": {"lr": 2, "ema": 0}})
        ['train.lr']
    """
    keys: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            keys += differences(a, b, f"{path}{key}.")
        elif json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True):
            keys.append(f"{path}{key}")
    return keys
