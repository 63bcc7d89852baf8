"""Recipes: all settings of a training run, read from TOML and changed by `--set`.

Here: the sections that all recipes share, and the recipe of joint embeddings: [data] rows, [model] towers,
[loss] pairs of fields, [train] optimiser and length.
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
        table: Name of a collection (stamps, clipart, emoji, translations), or a path.
        extra: Further tables; all their rows train, except those with a held-out caption.
        repeat: Occurrences of each row of `table` in an epoch, to balance it against extra rows.
        test: Share of the groups held out, or the sources.
        fields: Fields; empty: all that the table holds and the model has a tower for.
        languages: Languages of texts and speech: `en`, `en*`, `speech:fr` (see `data.table.sample.asked_of`);
            empty: all.
        captions: A random caption of a row in each epoch, or always the first.
        views: Views of an image cached for a locked tower: the plain one and views - 1 crops.
        extra_views: The same for images of the extra tables.
        class_vectors: Add the class vectors of the image encoder's classifier, paired with class names, as
            rows.
        blend: Probability of mixup of an image with another of its group (`data.loading.mixup`).
        vocab_size: Size of the byte-pair vocabulary trained on the training texts if the text tower needs
            one.
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
    """Two fields of a row whose vectors the loss pulls together."""

    a: FieldName
    b: FieldName
    weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _two_fields(self) -> PairConfig:
        if self.a == self.b:
            raise ValueError(f"a and b are both '{self.a}'; name two fields")
        return self


class LossConfig(Config):
    """The loss: sum over pairs of weight x loss.

    Attributes:
        kind: Registered name.
        pairs: Pairs of fields; empty: every two fields that occur together in a row.
        memory: Size of the cross-batch memory: rows of earlier steps that serve as further negatives.
        smoothing: Label smoothing.
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
    """Optimiser, length, precision, evaluation.

    Attributes:
        epochs: Passes over the training rows; alternatively
        steps: Number of steps.
        batch_size: Rows in a step.
        lr: Learning rate after the warm-up.
        unlocked_rate: Factor of `lr` for pretrained parameters: unlocked blocks of a locked encoder, and
            parameters from the run in `start`.
        start_share: Share of the starting weights in the kept weights (WiSE-FT); the rest is the moving
            average. It reduces forgetting.
        weight_decay: AdamW's, on matrices alone.
        beta1: AdamW's.
        beta2: AdamW's.
        eps: AdamW's.
        warmup: Steps, or a share of the run if below 1.
        clip_norm: Largest norm of the gradient; 0 does not clip.
        ema: Decay of the moving average that is evaluated and kept; 0: the weights themselves.
        precision: fp32, or bf16 by autocast.
        device: auto, cpu, cuda, ...
        eval_every: Steps between evaluations; 0: after the last step only.
        save_every: Steps between saved states; 0: at each evaluation and every half minute.
        keep: Keep the last averaged weights, or those with the best score on held-out rows.
        log_every: Steps between lines of the log.
        workers: Decoding processes, if media are decoded in training; 0: the trainer itself.
        cache_mb: Megabytes of opened media that each of these processes caches.
        augment: Random views of decoded media.
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
    """A training run of a joint embedding.

    Attributes:
        seed: Names every random choice: split, initial weights, order, dropout.
        data: Rows.
        model: Towers.
        loss: Pairs of fields.
        train: Optimiser, length, precision, evaluation.
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
