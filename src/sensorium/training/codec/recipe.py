"""Recipe of a codec: which rows, which codec, weights of the loss terms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from sensorium.core.config import Config
from sensorium.training.recipe import Test, TrainConfig


class CodecPart(Config):
    """Rows of one table.

    Attributes:
        table: Name of a packaged table, or a path.
        field: `image`, or for audio codecs `audio` or `speech`.
        sources: Sources that train and, if a share is held out, are measured; empty: all.
        test: Share of the groups held out, or the sources.
        repeat: Occurrences of each row in an epoch.
        languages: Languages of speech; empty: all.
    """

    table: str
    field: Literal["image", "audio", "speech"] = "image"
    sources: list[str] = Field(default_factory=list)
    test: Test = 0.1
    repeat: int = Field(default=1, ge=1)
    languages: list[str] = Field(default_factory=list)


class CodecData(Config):
    """Which rows, and their augmentation.

    Attributes:
        parts: Rows of tables, each under a name of its own.
        flip: Probability of a horizontal flip.
        shift_px: Largest shift of an image, its edges repeated.
        crop_s: Length of the random crop of a sound, in seconds.
        gain_db: Largest random gain or attenuation of a sound, in dB.
        max_measured: Held-out rows of each part that are measured.
    """

    parts: dict[str, CodecPart] = Field(min_length=1)
    flip: float = Field(default=0.5, ge=0, le=1)
    shift_px: int = Field(default=3, ge=0)
    crop_s: float = Field(default=1.0, gt=0)
    gain_db: float = Field(default=6.0, ge=0)
    max_measured: int = Field(default=200, ge=1)


class CodecModel(Config):
    """A codec by its registered name, with its own options."""

    codec: str
    options: dict[str, JsonValue] = Field(default_factory=dict)


class CodecLoss(Config):
    """Weights of the loss terms.

    Attributes:
        pixel: Mean squared error of an image's pixels, which are -1 to 1.
        colour: Mean squared error of the channels minus their mean.
        detail: Mean absolute error of a Laplacian pyramid.
        convergence: Spectral convergence of a sound.
        magnitude: Error of its log magnitudes.
        mel: Error of its log mel energies.
    """

    pixel: float = Field(default=4.0, ge=0)
    colour: float = Field(default=12.0, ge=0)
    detail: float = Field(default=0.5, ge=0)
    convergence: float = Field(default=1.0, ge=0)
    magnitude: float = Field(default=1.0, ge=0)
    mel: float = Field(default=2.0, ge=0)


class CodecRecipe(Config):
    """A training run of a codec.

    Attributes:
        task: "codec", which names the kind of recipe.
        seed: Names every random choice.
        data: Which rows.
        model: Which codec.
        loss: Weights of the loss terms.
        train: Optimiser, length, precision, evaluation.
    """

    task: str = Field(default="codec", pattern="^codec$")
    seed: int = Field(default=0, ge=0)
    data: CodecData
    model: CodecModel
    loss: CodecLoss = CodecLoss()
    train: TrainConfig
