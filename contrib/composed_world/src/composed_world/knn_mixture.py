"""Odds of the next id from texts that came to mind, beside the writer's own.

    p(y) = (1 - s) p_writer(y) + s  sum of w_i over texts that go on with y / sum of w_i over texts that go on

where a text goes on that begins with what was written. Where none does the writer goes on alone. It is the
mixture of kNN-LM (Khandelwal et al., arXiv:1911.00172, equation 3) over whole texts. Knows no pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class KnnMixture:
    """The rule of one request.

    Args:
        texts: Their ids, an end among them, each with its weight w.
        share: s, in (0, 1).

    Example:
        >>> rule = KnnMixture([([0, 2], 0.7), ([1, 2], 0.3)], share=0.9)
        >>> rule(torch.zeros(3), []).softmax(-1)
        tensor([0.6633, 0.3033, 0.0333])
    """

    def __init__(self, texts: Sequence[tuple[Sequence[int], float]], share: float) -> None:
        self._texts = [(list(ids), weight) for ids, weight in texts]
        self._share = share

    def __call__(self, scores: Float[Tensor, " V"], written: Sequence[int]) -> Float[Tensor, " V"]:
        """Scores of the mixture."""
        place, before = len(written), list(written)
        following = [(ids[place], weight) for ids, weight in self._texts if _goes_on(ids, before)]
        if not following:
            return scores
        recalled = torch.zeros_like(scores)
        for following_id, weight in following:
            recalled[following_id] += weight
        recalled /= recalled.sum()
        return ((1 - self._share) * scores.softmax(-1) + self._share * recalled).log()


def _goes_on(ids: Sequence[int], before: Sequence[int]) -> bool:
    return len(ids) > len(before) and list(ids[: len(before)]) == list(before)
