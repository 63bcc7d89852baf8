"""Contrastive losses between two batches of unit vectors: InfoNCE and sigmoid.

Input: rows of a and b (row i of both describes one sample), a logit scale, and which rows are positives of
each other. Output: a scalar. The B x B matrix of logits is never whole in memory; see `softmax_tiles` and
`sigmoid_tiles`. Papers: CLIP (arXiv 2103.00020), SupCon (2004.11362), SigLIP (2303.15343).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.core.registry import Registry
from sensorium.losses.positives import GroupIds, Positives
from sensorium.losses.sigmoid_tiles import TiledSigmoid
from sensorium.losses.softmax_tiles import TiledInfoNCE
from sensorium.losses.tiles import TILE, WHOLE_UP_TO

LOSSES: Registry[Tensor] = Registry("loss")
"""Losses by their names in recipes."""


@LOSSES.register("info_nce")
def info_nce(
    a: Float[Tensor, "B E"],
    b: Float[Tensor, "B E"],
    logit_scale: Float[Tensor, ""] | float,
    *,
    positives: GroupIds | None = None,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE, both directions added.

    With logits s a_i·b_j and N rows,

        L = (1/N) sum_i [-log softmax_j(s a_i·b_j)[i] - log softmax_j(s b_i·a_j)[i]].

    The two directions are summed, so the value is twice that of CLIP and of open_clip's `ClipLoss`, which
    average them. Halve it, or the learning rate, to compare.

    With several positives P(i) the term of anchor i is -(1/|P(i)|) sum_{p in P(i)} log softmax(...)[p]
    (SupCon's L_out, section 3.2.2: 78.7 against 67.4 % ImageNet top-1 for L_in). An anchor without positives
    is skipped; N counts the others.

    Values are computed in float32 (float64 for float64 rows), also under autocast. They differ from the
    untiled form only by rounding. Gradients of a, b and the scale are exact; there is no second derivative.

    Args:
        a: Unit rows of one modality.
        b: Unit rows of the other; row i belongs to row i of `a`.
        logit_scale: Multiplies the cosines (1 / temperature), not its logarithm.
        positives: Group numbers; rows with equal numbers are positives of each other. A pair gives the groups
            of `a` and of `b` separately. None: only row i with row i.
        tile: Side of the square of logits in memory at one time, >= 1. None: a batch of up to 4,096 rows is
            one tile, kept from forward to backward; a larger batch uses tiles of 2,048.

    Raises:
        UsageError: If the shapes disagree or `tile` is below 1.

    Example:
        >>> rows = torch.eye(3)
        >>> round(info_nce(rows, rows, 0.0).item(), 4)  # 2 log 3: uniform
        2.1972
        >>> round(info_nce(rows, rows, 5.0).item(), 4)  # 2 log(1 + 2 e^-5)
        0.0268
    """
    tile = (WHOLE_UP_TO if len(a) <= WHOLE_UP_TO else TILE) if tile is None else tile
    a, b = _rows(a, b, tile)
    scale = _scalar(logit_scale, a, "logit_scale")
    loss: Tensor = TiledInfoNCE.apply(a, b, scale, Positives(len(a), a.device, positives), tile)
    return loss


@LOSSES.register("sigmoid")
def sigmoid(
    a: Float[Tensor, "B E"],
    b: Float[Tensor, "B E"],
    logit_scale: Float[Tensor, ""] | float,
    bias: Float[Tensor, ""] | float,
    *,
    positives: GroupIds | None = None,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """Sigmoid loss of SigLIP: binary classification of every pair.

    L = -(1/B) sum_ij log sigmoid(z_ij (s a_i·b_j + bias)), z_ij = +1 for positives and -1 for all others.

    Args:
        a: Unit rows of one modality.
        b: Unit rows of the other; row i belongs to row i of `a`.
        logit_scale: Multiplies the cosines; SigLIP starts at 10.
        bias: Added to the logits; SigLIP starts at -10 because most pairs are negatives.
        positives: As for `info_nce`.
        tile: Side of the square of logits in memory at one time, >= 1.

    Raises:
        UsageError: If the shapes disagree or `tile` is below 1.

    Example:
        >>> rows = torch.eye(3)
        >>> round(sigmoid(rows, rows, 10.0, -5.0).item(), 4)  # 3 log(1 + e^-5)
        0.0201
    """
    a, b = _rows(a, b, tile)
    scale, offset = _scalar(logit_scale, a, "logit_scale"), _scalar(bias, a, "bias")
    loss: Tensor = TiledSigmoid.apply(a, b, scale, offset, Positives(len(a), a.device, positives), tile)
    return loss


def _rows(a: Tensor, b: Tensor, tile: int) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or a.shape != b.shape or len(a) == 0:
        raise UsageError(
            f"a {tuple(a.shape)} and b {tuple(b.shape)}; expected two equal shapes (B, E) with B >= 1"
        )
    if tile < 1:
        raise UsageError(f"tile={tile}; expected >= 1, e.g. {TILE}")
    dtype = torch.float64 if torch.float64 in (a.dtype, b.dtype) else torch.float32
    return a.to(dtype), b.to(dtype)


def _scalar(value: Tensor | float, like: Tensor, name: str) -> Tensor:
    scalar = torch.as_tensor(value, device=like.device).to(like.dtype)
    if scalar.numel() != 1:
        raise UsageError(f"{name} has shape {tuple(scalar.shape)}; expected a single number")
    return scalar.reshape(())
