"""InfoNCE of a batch against itself and rows of earlier steps: few anchors, many candidates.

In: the batch's rows of two modalities, those that are remembered, and the groups of all. Out: a scalar. The
B x (B + M) logits are held, so this is for batches of hundreds beside thousands; `info_nce` is for batches of
thousands. Nothing here knows modalities, models or who remembers.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def remembered_info_nce(
    a: Float[Tensor, "B E"],
    b: Float[Tensor, "B E"],
    logit_scale: Float[Tensor, ""] | float,
    groups: Int64[Tensor, " B"],
    known_a: Float[Tensor, "M E"],
    known_b: Float[Tensor, "M E"],
    known_groups: Int64[Tensor, " M"],
    *,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """InfoNCE in both directions, added, where only the batch's rows are anchors but all are candidates.

    With candidates c_j, the batch's b and then the known ones, and P(i) those of the group of i,

        L_a = (1/B) sum_i [log sum_j exp(s a_i·c_j) - (1 - e)/|P(i)| sum_{p in P(i)} s a_i·c_p
                           - e/(B + M) sum_j s a_i·c_j],

    e the smoothing: that share of what an anchor should find is spread over all candidates (Szegedy et al.,
    arXiv 1512.00567, section 7), so the logits need not grow without end. Without known rows and e this is
    `info_nce`. Rows of earlier steps as candidates: Wang et al. (XBM), arXiv 1912.06798.

    Args:
        a: Unit rows of one modality.
        b: Unit rows of the other; row i belongs to row i of `a`.
        logit_scale: Multiplies the cosines.
        groups: Rows with equal numbers are positives of each other.
        known_a: Remembered rows of the first modality, M >= 0.
        known_b: Of the second.
        known_groups: Their groups.
        smoothing: e, 0 <= e < 1.

    Example:
        >>> rows, groups = torch.eye(3), torch.arange(3)
        >>> remembered_info_nce(rows, rows, 5.0, groups, rows[:0], rows[:0], groups[:0]).round(decimals=4)
        tensor(0.0268)
    """
    a, b = a.float(), b.float()
    of = torch.cat([groups, known_groups])
    found = (groups[:, None] == of).float()
    share = (1 - smoothing) * found / found.sum(dim=1, keepdim=True) + smoothing / len(of)
    total = a.new_zeros(())
    for anchors, candidates in ((a, torch.cat([b, known_b])), (b, torch.cat([a, known_a]))):
        logits = logit_scale * (anchors @ candidates.T)
        total = total + (logits.logsumexp(dim=1) - (share * logits).sum(dim=1)).mean()
    return total
