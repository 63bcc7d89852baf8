"""InfoNCE with cross-batch memory (XBM): rows of earlier steps are additional candidates.

Input: the batch's rows of two modalities, stored rows of earlier steps, and the group of each row. Output: a
scalar. The B x (B + M) logits are held in memory, so this is for B of hundreds; `info_nce` is tiled and
takes batches of thousands. The caller keeps the memory.

Reference: Wang et al. (XBM), arXiv 1912.06798.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def cross_batch_info_nce(
    a: Float[Tensor, "B E"],
    b: Float[Tensor, "B E"],
    logit_scale: Float[Tensor, ""] | float,
    groups: Int64[Tensor, " B"],
    memory_a: Float[Tensor, "M E"],
    memory_b: Float[Tensor, "M E"],
    memory_groups: Int64[Tensor, " M"],
    *,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE, both directions added; batch rows are anchors, batch and memory rows candidates.

    With candidates c_j (the batch's b, then the memory's) and P(i) those of the group of anchor i,

        L_a = (1/B) sum_i [log sum_j exp(s a_i·c_j) - (1 - e)/|P(i)| sum_{p in P(i)} s a_i·c_p
                           - e/(B + M) sum_j s a_i·c_j],

    where e is the label smoothing (Szegedy et al., arXiv 1512.00567, section 7). With M = 0 and e = 0 this is
    `info_nce`.

    Args:
        a: Unit rows of one modality.
        b: Unit rows of the other; row i belongs to row i of `a`.
        logit_scale: Multiplies the cosines.
        groups: Rows with equal numbers are positives of each other.
        memory_a: Stored rows of the first modality, M >= 0.
        memory_b: Stored rows of the second.
        memory_groups: Groups of the stored rows.
        smoothing: e, 0 <= e < 1.

    Example:
        >>> rows, groups = torch.eye(3), torch.arange(3)
        >>> cross_batch_info_nce(rows, rows, 5.0, groups, rows[:0], rows[:0], groups[:0]).round(decimals=4)
        tensor(0.0268)
    """
    a, b = a.float(), b.float()
    candidate_groups = torch.cat([groups, memory_groups])
    is_positive = (groups[:, None] == candidate_groups).float()
    target = (1 - smoothing) * is_positive / is_positive.sum(dim=1, keepdim=True)
    target = target + smoothing / len(candidate_groups)
    total = a.new_zeros(())
    for anchors, candidates in ((a, torch.cat([b, memory_b])), (b, torch.cat([a, memory_a]))):
        logits = logit_scale * (anchors @ candidates.T)
        total = total + (logits.logsumexp(dim=1) - (target * logits).sum(dim=1)).mean()
    return total
