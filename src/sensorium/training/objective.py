"""What is minimised: for each pair of fields, the loss over the rows that have both.

In: unit vectors by field and the batch they come from. Out: the weighted sum and its terms. Rows of one group
(the same caption) are positives of each other. Does not know towers or where batches come from.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sensorium import losses
from sensorium.core.types import MediaBatch
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.recipe import LossConfig


@dataclass(frozen=True)
class Objective:
    """A batch's loss.

    Attributes:
        total: Weighted sum of the terms.
        terms: By pair, as "image-text"; pairs of which the batch holds fewer than two rows are left out.
    """

    total: Float[Tensor, ""]
    terms: Mapping[str, Float[Tensor, ""]]


def objective(
    model: JointEmbedding, vectors: Mapping[str, Float[Tensor, "_ E"]], batch: MediaBatch, config: LossConfig
) -> Objective:
    """Compute sum over pairs of weight x loss.

    Args:
        model: Gives the logit scale and, to the sigmoid loss, the offset.
        vectors: What `model(batch)` gave.
        batch: The rows.
        config: Kind and pairs.
    """
    terms: dict[str, Tensor] = {}
    total = model.logit_scale * 0.0
    for pair in config.pairs:
        if pair.a not in vectors or pair.b not in vectors:
            continue
        at_a, at_b, rows = shared_rows(batch.present[pair.a], batch.present[pair.b])
        if len(rows) < 2:
            continue
        groups = None if batch.groups is None else batch.groups[rows]
        term = _loss(config, model, vectors[pair.a][at_a], vectors[pair.b][at_b], groups)
        terms[f"{pair.a}-{pair.b}"] = term
        total = total + pair.weight * term
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
