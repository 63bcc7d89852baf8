"""What is minimised: the contract of a criterion, and that of the joint embedding.

A criterion gets what the model gave for a batch, and the batch; it gives the loss and its terms. The joint
embedding's: for each pair of fields, the loss over the rows that have both. Rows of one group (the same
caption) are positives of each other. Rows of earlier steps may stand beside a batch: a small batch then has
the negatives of a large one. Does not know towers or where batches come from.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sensorium import losses
from sensorium.core.errors import UsageError
from sensorium.core.types import MediaBatch
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.recipe import LossConfig


@runtime_checkable
class Batch(Protocol):
    """What the loop moves and counts; models and criteria know its class."""

    @property
    def rows(self) -> Int64[Tensor, " B"]:
        """Row numbers."""

    def to(self, device: torch.device | str) -> Any:
        """Return a copy on `device`."""


@dataclass(frozen=True)
class Objective:
    """A batch's loss.

    Attributes:
        total: Weighted sum of the terms.
        terms: By name, as "image-text"; what the batch has nothing of is left out.
    """

    total: Float[Tensor, ""]
    terms: Mapping[str, Float[Tensor, ""]]


@runtime_checkable
class Criterion(Protocol):
    """What is minimised, for one class of models."""

    def __call__(self, model: Any, outputs: Any, batch: Any) -> Objective:
        """Compute the loss of `outputs = model(batch)`; runs outside autocast."""

    def figures(self, model: Any) -> Mapping[str, float]:
        """What of the model is worth a line of the log."""

    def broken(self, outputs: Any, batch: Any) -> list[int]:
        """Rows of which an output is not finite; empty where it cannot be told."""


@runtime_checkable
class Remembering(Protocol):
    """A criterion that keeps something from one step to the next."""

    @property
    def memory(self) -> dict[str, Tensor]:
        """What it keeps, by name; saved with the state of a run, and put back where that goes on."""


@dataclass(frozen=True)
class Contrast:
    """The joint embedding's criterion.

    Attributes:
        config: Kind, pairs and how many rows are remembered.
        memory: For each pair the last rows of both fields and their groups, the latest first.

    Reference:
        Rows of earlier steps beside the batch: Wang et al. (XBM), arXiv 1912.06798. Vectors drift slowly, so
        old ones, through which no gradient flows, still stand for their rows.
    """

    config: LossConfig
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, model: nn.Module, outputs: Mapping[str, Tensor], batch: MediaBatch) -> Objective:
        """Compute sum over pairs of weight x loss, and remember the batch."""
        assert isinstance(model, JointEmbedding)
        return objective(model, outputs, batch, self.config, self.memory)

    def figures(self, model: JointEmbedding) -> Mapping[str, float]:
        """The logit scale."""
        return {"logit_scale": float(model.logit_scale.detach())}

    def broken(self, outputs: Mapping[str, Tensor], batch: MediaBatch) -> list[int]:
        """Rows with a vector that is not finite."""
        return [
            int(row)
            for name, found in outputs.items()
            for row in batch.rows[batch.present[name][~found.detach().isfinite().all(dim=1).cpu()].cpu()]
        ]


def objective(
    model: JointEmbedding,
    vectors: Mapping[str, Float[Tensor, "_ E"]],
    batch: MediaBatch,
    config: LossConfig,
    memory: dict[str, Tensor] | None = None,
) -> Objective:
    """Compute sum over pairs of weight x loss.

    Args:
        model: Gives the logit scale and, to the sigmoid loss, the offset.
        vectors: What `model(batch)` gave.
        batch: The rows.
        config: Kind, pairs and how many rows are remembered.
        memory: Rows of earlier steps, which the batch's are compared with and then join.
    """
    memory = {} if memory is None else memory
    terms: dict[str, Tensor] = {}
    total = model.logit_scale * 0.0
    for pair in config.pairs:
        if pair.a not in vectors or pair.b not in vectors:
            continue
        at_a, at_b, rows = shared_rows(batch.present[pair.a], batch.present[pair.b])
        if len(rows) < 2:
            continue
        name = f"{pair.a}-{pair.b}"
        a, b = vectors[pair.a][at_a], vectors[pair.b][at_b]
        groups = None if batch.groups is None else batch.groups[rows]
        if config.memory or config.smoothing:
            terms[name] = _remembered(config, model, a, b, groups, memory, name)
        else:
            terms[name] = _loss(config, model, a, b, groups)
        total = total + pair.weight * terms[name]
    return Objective(total, terms)


def shared_rows(
    a: Int64[Tensor, " m"], b: Int64[Tensor, " n"]
) -> tuple[Int64[Tensor, " s"], Int64[Tensor, " s"], Int64[Tensor, " s"]]:
    """Where two lists of positions, both ascending, hold the same position.

    Returns:
        Indices into `a`, indices into `b`, and the shared positions.

    Example:
        >>> [found.tolist() for found in shared_rows(torch.tensor([0, 2, 3]), torch.tensor([2, 3, 5]))]
        [[1, 2], [0, 1], [2, 3]]
    """
    in_a, in_b = torch.isin(a, b), torch.isin(b, a)
    return in_a.nonzero()[:, 0], in_b.nonzero()[:, 0], a[in_a]


def _remembered(
    config: LossConfig,
    model: JointEmbedding,
    a: Float[Tensor, "B E"],
    b: Float[Tensor, "B E"],
    groups: Int64[Tensor, " B"] | None,
    memory: dict[str, Tensor],
    name: str,
) -> Float[Tensor, ""]:
    """Compare a batch with itself and with rows of earlier steps, and keep the latest of all."""
    if groups is None:
        raise UsageError("loss.memory and loss.smoothing need groups: a row is no negative of itself")
    rows = {f"{name}.a": a.float(), f"{name}.b": b.float(), f"{name}.groups": groups}
    known = {key: memory.get(key, new[:0]).detach().to(new.device) for key, new in rows.items()}
    loss = losses.cross_batch_info_nce(
        a, b, model.logit_scale, groups, *known.values(), smoothing=config.smoothing
    )
    for key, new in rows.items():
        memory[key] = torch.cat([new.detach(), known[key]])[: config.memory]
    return loss


def _loss(
    config: LossConfig,
    model: JointEmbedding,
    a: Float[Tensor, "B E"],
    b: Float[Tensor, "B E"],
    groups: Int64[Tensor, " B"] | None,
) -> Float[Tensor, ""]:
    """Call the registered loss; one that has an offset among its parameters is given the model's."""
    loss = losses.LOSSES.get(config.kind)
    offset = {"bias": model.logit_bias} if "bias" in inspect.signature(loss).parameters else {}
    return loss(a, b, model.logit_scale, **offset, positives=groups)
