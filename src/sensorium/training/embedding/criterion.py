"""Loss of joint embeddings: for each pair of fields, the contrastive loss over the rows that have both.

Rows of one group (the same caption) are positives of each other. With `memory`, vectors of earlier steps are
further negatives (cross-batch memory), so that a small batch has the negatives of a large one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sensorium import losses
from sensorium.core.errors import UsageError
from sensorium.core.types import MediaBatch
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.criterion import Objective
from sensorium.training.recipe import LossConfig


@dataclass(frozen=True)
class Contrast:
    """Criterion of joint embeddings.

    Attributes:
        config: Kind of loss, pairs, size of the memory.
        memory: For each pair, the latest vectors of both fields and their groups, the latest first.

    Reference:
        Cross-batch memory (XBM): Wang et al., arXiv 1912.06798. Vectors drift slowly, so old ones, through
        which no gradient flows, still serve as negatives.
    """

    config: LossConfig
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, model: nn.Module, outputs: Mapping[str, Tensor], batch: MediaBatch) -> Objective:
        """Compute sum over pairs of weight x loss, and add the batch to the memory."""
        assert isinstance(model, JointEmbedding)
        return objective(model, outputs, batch, self.config, self.memory)

    def log_values(self, model: JointEmbedding) -> Mapping[str, float]:
        """The logit scale."""
        return {"logit_scale": float(model.logit_scale.detach())}

    def bad_rows(self, outputs: Mapping[str, Tensor], batch: MediaBatch) -> list[int]:
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
        model: Has the logit scale and, for the sigmoid loss, the bias.
        vectors: `model(batch)`.
        batch: The rows.
        config: Kind of loss, pairs, size of the memory.
        memory: Vectors of earlier steps; the batch's are added.
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
            terms[name] = _with_memory(config, model, a, b, groups, memory, name)
        else:
            terms[name] = _loss(config, model, a, b, groups)
        total = total + pair.weight * terms[name]
    return Objective(total, terms)


def shared_rows(
    a: Int64[Tensor, " m"], b: Int64[Tensor, " n"]
) -> tuple[Int64[Tensor, " s"], Int64[Tensor, " s"], Int64[Tensor, " s"]]:
    """Intersect two ascending lists of positions.

    Returns:
        Indices into `a`, indices into `b`, and the shared positions.

    Example:
        >>> [found.tolist() for found in shared_rows(torch.tensor([0, 2, 3]), torch.tensor([2, 3, 5]))]
        [[1, 2], [0, 1], [2, 3]]
    """
    in_a, in_b = torch.isin(a, b), torch.isin(b, a)
    return in_a.nonzero()[:, 0], in_b.nonzero()[:, 0], a[in_a]


def _with_memory(
    config: LossConfig,
    model: JointEmbedding,
    a: Float[Tensor, "B E"],
    b: Float[Tensor, "B E"],
    groups: Int64[Tensor, " B"] | None,
    memory: dict[str, Tensor],
    name: str,
) -> Float[Tensor, ""]:
    """Loss of a batch against itself and the memory; keeps the latest rows of both."""
    if groups is None:
        raise UsageError("loss.memory and loss.smoothing need groups, because a row is not its own negative")
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
    """Call the registered loss; one with a `bias` parameter gets the model's."""
    loss = losses.LOSSES.get(config.kind)
    bias = {"bias": model.logit_bias} if "bias" in inspect.signature(loss).parameters else {}
    return loss(a, b, model.logit_scale, **bias, positives=groups)
