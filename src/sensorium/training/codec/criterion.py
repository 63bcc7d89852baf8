"""Losses of codecs: reconstruction of images and of sounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.codecs.contract import Reconstructed, Signals
from sensorium.losses.laplacian import pyramid_l1
from sensorium.losses.spectral import spectral_losses
from sensorium.training.codec.recipe import CodecLoss
from sensorium.training.criterion import Objective

Terms = Callable[[Tensor, Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Reconstruction:
    """Weighted sum of reconstruction terms.

    Attributes:
        weights: Weights of the terms.
        terms: Computes the terms of a reconstruction and its target: `image_terms` or `audio_terms`.
    """

    weights: CodecLoss
    terms: Terms

    def __call__(self, model: object, outputs: Reconstructed, batch: Signals) -> Objective:
        """Compare the reconstruction with its target."""
        terms = self.terms(outputs.values.float(), batch.targets)
        parts = [getattr(self.weights, name) * term for name, term in terms.items()]
        return Objective(torch.stack(parts).sum(), terms)

    def log_values(self, model: object) -> Mapping[str, float]:
        """None: code usage is measured on held-out rows."""
        return {}

    def bad_rows(self, outputs: Reconstructed, batch: Signals) -> list[int]:
        """Rows with an output that is not finite."""
        wrong = ~outputs.values.detach().isfinite().flatten(1).all(dim=1).cpu()
        return [int(row) for row in batch.rows[wrong]]


def image_terms(
    given: Float[Tensor, "B 3 S S"], target: Float[Tensor, "B 3 S S"]
) -> dict[str, Float[Tensor, ""]]:
    """Squared error of pixels and of colours, absolute error of details at every scale.

    Pixels use squares, because an absolute error is least for the median, and the median of patches is grey.
    Colour is a term of its own, because it varies less than brightness.
    """
    error = given - target
    return {
        "pixel": error.square().mean(),
        "colour": (error - error.mean(dim=1, keepdim=True)).square().mean(),
        "detail": pyramid_l1(given, target),
    }


def audio_terms(given: Float[Tensor, "B T"], target: Float[Tensor, "B T"]) -> dict[str, Float[Tensor, ""]]:
    """Distances of spectra at several resolutions."""
    terms = spectral_losses(target, given)
    return {"convergence": terms.convergence, "magnitude": terms.magnitude, "mel": terms.mel}
