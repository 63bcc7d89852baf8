"""Contract of a training criterion: from a batch and the model's outputs to a loss and its terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@runtime_checkable
class Batch(Protocol):
    """A batch: the loop moves it to a device and counts its rows; model and criterion know its class."""

    @property
    def rows(self) -> Int64[Tensor, " B"]:
        """Row numbers."""

    def to(self, device: torch.device | str) -> Any:
        """Return a copy on `device`."""


@dataclass(frozen=True)
class Objective:
    """Loss of a batch.

    Attributes:
        total: Weighted sum of the terms.
        terms: By name, as "image-text"; a term without rows in the batch is left out.
    """

    total: Float[Tensor, ""]
    terms: Mapping[str, Float[Tensor, ""]]


@runtime_checkable
class Criterion(Protocol):
    """The loss of one class of models."""

    def __call__(self, model: Any, outputs: Any, batch: Any) -> Objective:
        """Compute the loss of `outputs = model(batch)`; runs outside autocast."""

    def log_values(self, model: Any) -> Mapping[str, float]:
        """Further values for the log, such as the logit scale."""

    def bad_rows(self, outputs: Any, batch: Any) -> list[int]:
        """Rows with an output that is not finite; empty if unknown."""


@runtime_checkable
class HasMemory(Protocol):
    """A criterion with state that is kept from step to step."""

    @property
    def memory(self) -> dict[str, Tensor]:
        """The state by name; saved and restored with the state of the run."""
