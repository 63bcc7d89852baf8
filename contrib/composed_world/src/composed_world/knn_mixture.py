"""Logits processor that mixes the decoder's distribution with retrieved texts (kNN-LM over whole texts).

    p(y) = (1 - s) p_decoder(y) + s  sum_{i continues with y} w_i / sum_{i continues} w_i

A text continues if it begins with the generated ids and is longer. Where none does, the distribution is
unchanged.

Reference: arXiv:1911.00172, equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class KnnMixture:
    """The logits processor of one request.

    Args:
        texts: Ids of each text, with the end id, and its weight w.
        share: s, in (0, 1).

    Example:
        >>> processor = KnnMixture([([0, 2], 0.7), ([1, 2], 0.3)], share=0.9)
        >>> processor(torch.zeros(3), []).softmax(-1)
        tensor([0.6633, 0.3033, 0.0333])
    """

    def __init__(self, texts: Sequence[tuple[Sequence[int], float]], share: float) -> None:
        self._texts = [(list(ids), weight) for ids, weight in texts]
        self._share = share

    def __call__(self, scores: Float[Tensor, " V"], generated: Sequence[int]) -> Float[Tensor, " V"]:
        """Return the log-probabilities of the mixture."""
        place, before = len(generated), list(generated)
        following = [(ids[place], weight) for ids, weight in self._texts if _continues(ids, before)]
        if not following:
            return scores
        retrieved = torch.zeros_like(scores)
        for following_id, weight in following:
            retrieved[following_id] += weight
        retrieved /= retrieved.sum()
        return ((1 - self._share) * scores.softmax(-1) + self._share * retrieved).log()


def _continues(ids: Sequence[int], before: Sequence[int]) -> bool:
    return len(ids) > len(before) and list(ids[: len(before)]) == list(before)
