"""What an autoencoder of ids minimises, for pictures and for sounds, and the recipe of such a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, JsonValue, field_validator
from torch import Tensor

from sensorium.codecs.contract import Reconstructed, Signals
from sensorium.core.config import Config
from sensorium.losses.laplacian import pyramid_l1
from sensorium.losses.spectral import spectral_losses
from sensorium.training.objective import Objective
from sensorium.training.recipe import HeldOut, TrainConfig


class CodecPart(Config):
    """Rows of one table.

    Attributes:
        table: Name of a packaged table, or a path.
        field: What is encoded: `image`, or for sounds `audio` or `speech`.
        sources: Whose rows train and, where a share is held out, are measured; empty: all.
        test: Share of the groups held out, or the sources.
        repeat: Times that each row comes in an epoch.
        languages: Of speech; empty: all.
    """

    table: str
    field: Literal["image", "audio", "speech"] = "image"
    sources: list[str] = Field(default_factory=list)
    test: float | HeldOut = 0.1
    repeat: int = Field(default=1, ge=1)
    languages: list[str] = Field(default_factory=list)

    @field_validator("test")
    @classmethod
    def _share(cls, test: float | HeldOut) -> float | HeldOut:
        if isinstance(test, float) and not 0 < test < 1:
            raise ValueError(f"test={test} is not a share between 0 and 1")
        return test


class CodecData(Config):
    """Which rows, and how they are varied.

    Attributes:
        parts: Of which tables, each under a name of its own.
        flip: Chance that a picture is mirrored in training.
        shift_px: In training, pictures are moved by up to this, their edges stretched.
        crop_s: In training, the seconds of a sound that are taken, from anywhere in it.
        gain_db: In training, sounds are made louder or softer by up to this.
        max_measured: Held-out rows of each part that are measured in the middle of training.
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
    """Weights of the terms.

    Attributes:
        pixel: Of a picture's mean squared error; pixels are -1 to 1.
        colour: The same of what is left of each channel without the channels' mean.
        detail: Of the mean absolute error of its details at every scale.
        convergence: Of a sound's spectral convergence.
        magnitude: Of its log magnitudes.
        mel: Of its log mel energies.
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
        task: "codec": what tells this recipe from others.
        seed: Names every random choice.
        data: Which rows.
        model: Which codec.
        loss: Weights of what is minimised.
        train: How.
    """

    task: str = Field(default="codec", pattern="^codec$")
    seed: int = Field(default=0, ge=0)
    data: CodecData
    model: CodecModel
    loss: CodecLoss = CodecLoss()
    train: TrainConfig


@dataclass(frozen=True)
class PictureFidelity:
    """The criterion of image codecs: pixels, so that colours are kept, and details, so that edges are.

    Squares for pixels: an absolute error is least for the median, and the median of patches is grey. Colour
    counts apart, for it varies less than brightness and is what a picture is described by.

    Attributes:
        weights: Of the terms.
    """

    weights: CodecLoss

    def __call__(self, model: object, outputs: Reconstructed, batch: Signals) -> Objective:
        """Compare what was painted with what was shown."""
        given, wanted = outputs.values.float(), batch.targets
        apart = given - wanted
        terms = {
            "pixel": apart.square().mean(),
            "colour": (apart - apart.mean(dim=1, keepdim=True)).square().mean(),
            "detail": pyramid_l1(given, wanted),
        }
        return weighted(self.weights, terms)

    def figures(self, model: object) -> Mapping[str, float]:
        """Nothing: what codes are used is measured on held-out rows."""
        return {}

    def broken(self, outputs: Reconstructed, batch: Signals) -> list[int]:
        """Rows with an output that is not finite."""
        return rows_not_finite(outputs.values, batch)


@dataclass(frozen=True)
class SoundFidelity:
    """The criterion of audio codecs: spectra at several resolutions.

    Attributes:
        weights: Of the terms.
    """

    weights: CodecLoss

    def __call__(self, model: object, outputs: Reconstructed, batch: Signals) -> Objective:
        """Compare what is heard with what was said."""
        terms = spectral_losses(batch.targets, outputs.values.float())
        named = {"convergence": terms.convergence, "magnitude": terms.magnitude, "mel": terms.mel}
        return weighted(self.weights, named)

    def figures(self, model: object) -> Mapping[str, float]:
        """Nothing: what codes are used is measured on held-out rows."""
        return {}

    def broken(self, outputs: Reconstructed, batch: Signals) -> list[int]:
        """Rows with an output that is not finite."""
        return rows_not_finite(outputs.values, batch)


def weighted(weights: CodecLoss, terms: Mapping[str, Float[Tensor, ""]]) -> Objective:
    """Sum of terms, each times the weight of its name."""
    parts = [getattr(weights, name) * term for name, term in terms.items()]
    return Objective(torch.stack(parts).sum(), terms)


def rows_not_finite(values: Float[Tensor, "B ..."], batch: Signals) -> list[int]:
    """Rows of a batch of which a value is not finite."""
    wrong = ~values.detach().isfinite().flatten(1).all(dim=1).cpu()
    return [int(row) for row in batch.rows[wrong]]
