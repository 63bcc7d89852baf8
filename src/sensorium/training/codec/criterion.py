"""Losses of codecs: reconstruction of images and of sounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.codecs.contract import Reconstructed, Signals
from sensorium.losses.laplacian import pyramid_l1
from sensorium.losses.spectral import spectral_losses
from sensorium.training.codec.recipe import CodecLoss
from sensorium.training.criterion import Objective


@dataclass(frozen=True)
class ImageReconstruction:
    """Loss of image codecs: squared error of pixels and of colours, absolute error of details at every scale.

    Pixels use squares, because an absolute error is least for the median, and the median of patches is grey.
    Colour is a term of its own, because it varies less than brightness.

    Attributes:
        weights: Weights of the terms.
    """

    weights: CodecLoss

    def __call__(self, model: object, outputs: Reconstructed, batch: Signals) -> Objective:
        """Compare the reconstruction with the image."""
        given, target = outputs.values.float(), batch.targets
        error = given - target
        terms = {
            "pixel": error.square().mean(),
            "colour": (error - error.mean(dim=1, keepdim=True)).square().mean(),
            "detail": pyramid_l1(given, target),
        }
        return weighted(self.weights, terms)

    def log_values(self, model: object) -> Mapping[str, float]:
        """None: code usage is measured on held-out rows."""
        return {}

    def bad_rows(self, outputs: Reconstructed, batch: Signals) -> list[int]:
        """Rows with an output that is not finite."""
        return rows_not_finite(outputs.values, batch)


@dataclass(frozen=True)
class AudioReconstruction:
    """Loss of audio codecs: distance of spectra at several resolutions.

    Attributes:
        weights: Weights of the terms.
    """

    weights: CodecLoss

    def __call__(self, model: object, outputs: Reconstructed, batch: Signals) -> Objective:
        """Compare the reconstruction with the sound."""
        terms = spectral_losses(batch.targets, outputs.values.float())
        named = {"convergence": terms.convergence, "magnitude": terms.magnitude, "mel": terms.mel}
        return weighted(self.weights, named)

    def log_values(self, model: object) -> Mapping[str, float]:
        """None: code usage is measured on held-out rows."""
        return {}

    def bad_rows(self, outputs: Reconstructed, batch: Signals) -> list[int]:
        """Rows with an output that is not finite."""
        return rows_not_finite(outputs.values, batch)


def weighted(weights: CodecLoss, terms: Mapping[str, Float[Tensor, ""]]) -> Objective:
    """Sum of the terms, each times its weight."""
    parts = [getattr(weights, name) * term for name, term in terms.items()]
    return Objective(torch.stack(parts).sum(), terms)


def rows_not_finite(values: Float[Tensor, "B ..."], batch: Signals) -> list[int]:
    """Rows of a batch with a value that is not finite."""
    wrong = ~values.detach().isfinite().flatten(1).all(dim=1).cpu()
    return [int(row) for row in batch.rows[wrong]]
