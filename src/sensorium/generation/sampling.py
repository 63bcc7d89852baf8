"""Sampling: chooses the next id from logits, greedily or at random.

The steps, in this order:

    repetition penalty  l_i = l_i / r if l_i > 0 else l_i r, for earlier ids     arXiv:1909.05858
    temperature         p_i = softmax_i(l / temperature); 0: argmax, no sampling
    top-k               keep the k likeliest ids
    top-p               keep the fewest of them whose probabilities sum to top-p   arXiv:1904.09751
    min-p               keep those with p_i >= min-p max_j p_j                    arXiv:2407.01082

Then one uniform number from the request's own generator draws an id. So the result depends on the seed and
the logits, not on other requests of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from sensorium.core.config import Config
from sensorium.core.errors import CheckpointError, UsageError

_FIRST_TOP_K = 128
"""Candidates that are sorted first; more are sorted if top-p needs them."""
_BLOCK = 256
"""Probabilities that are summed at once when an id is drawn."""
_MIN_TEMPERATURE = 1e-30
"""Smallest divisor: smaller ones overflow in single precision."""


class Sampling(Config):
    """Sampling options; the default is greedy.

    Attributes:
        temperature: Divides the logits; 0: greedy.
        top_k: Maximum number of candidates; None: all.
        top_p: Smallest sum of the probabilities that are kept.
        min_p: Smallest probability that is kept, as a fraction of the largest.
        repetition_penalty: Above 1, ids of the prompt and of the text so far become less likely.
        seed: Of the request's random generator.
    """

    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)


GREEDY = Sampling()


def choose(
    logits: Float[Tensor, " V"], sampling: Sampling, earlier: Collection[int], stream: torch.Generator
) -> int:
    """Choose an id.

    Args:
        logits: On the CPU; minus infinity excludes an id.
        sampling: Options.
        earlier: Ids that the repetition penalty applies to.
        stream: Draws one number, unless sampling is greedy.

    Raises:
        CheckpointError: If a logit is NaN or infinite.
        UsageError: If all ids are excluded.
    """
    if sampling.repetition_penalty != 1 and earlier:
        logits = penalised(logits, earlier, sampling.repetition_penalty)
    if sampling.temperature == 0:
        best = int(logits.numpy().argmax())
        check_max(logits[best])
        return best
    ids, probs = candidates(logits, sampling)
    draw = float(torch.rand((), dtype=torch.float64, generator=stream))
    return int(ids[_pick(probs, draw)])


def check_max(score: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Check the maximum of some logits and return it.

    Raises:
        CheckpointError: If it is NaN or plus infinity: the weights are damaged, or overflow.
        UsageError: If it is minus infinity: all ids are excluded.
    """
    value = float(score)
    if value == -math.inf:
        raise UsageError("all next ids are excluded by the grammar or the logits processor of the request")
    if not math.isfinite(value):
        raise CheckpointError(
            f"the model's largest logit is {value}, expected a number: its weights are damaged, or too "
            "large for the precision; fetch the model again, or use precision fp32"
        )
    return score


def penalised(logits: Float[Tensor, " V"], earlier: Collection[int], penalty: float) -> Float[Tensor, " V"]:
    """Apply the repetition penalty to the logits of earlier ids."""
    places = torch.tensor(sorted(set(earlier)))
    scores, penalty = logits[places], min(max(penalty, _MIN_TEMPERATURE), 1 / _MIN_TEMPERATURE)
    changed = torch.where(scores > 0, scores / penalty, scores * penalty)
    largest = torch.finfo(logits.dtype).max
    changed = torch.where(scores.isinf(), scores, changed.clamp(-largest, largest))
    return logits.index_put((places,), changed)


def candidates(
    logits: Float[Tensor, " V"], sampling: Sampling
) -> tuple[Int64[Tensor, " C"], Float[Tensor, " C"]]:
    """Return the ids that may be drawn, and their probabilities (C,), which are not renormalised.

    Without top-k, top-p and min-p these are all ids in order, else the likeliest first. `temperature` must be
    above 0.
    """
    scores = logits.float()
    scores = scores - check_max(scores.max())
    probs = torch.softmax(scores / max(sampling.temperature, _MIN_TEMPERATURE), dim=0)
    if sampling.top_k is None and sampling.top_p == 1 and sampling.min_p == 0:
        return torch.arange(len(probs)), probs
    kept, ids = _likeliest(probs, sampling)
    kept = kept.double()
    if sampling.top_p < 1:
        sums = kept.cumsum(0)
        total = 1.0 if sampling.top_k is None else float(sums[-1])
        needed = torch.tensor(sampling.top_p * total, dtype=sums.dtype)
        kept = kept[: int(torch.searchsorted(sums, needed)) + 1]
    kept = kept[kept >= sampling.min_p * kept[0]]
    return ids[: len(kept)], kept


def _likeliest(probs: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Return the largest probabilities, at least as many as the limits can keep, and their ids, sorted."""
    limit = len(probs) if sampling.top_k is None else min(sampling.top_k, len(probs))
    count = min(_FIRST_TOP_K, limit)
    while True:
        kept, ids = probs.topk(count)
        is_enough = count == limit or (sampling.top_k is None and float(kept.sum()) >= sampling.top_p)
        if is_enough and (sampling.top_p < 1 or count == limit):
            return kept, ids
        if kept[-1] < sampling.min_p * kept[0]:
            return kept, ids
        count = min(8 * count, limit)


def log_normaliser(logits: Float[Tensor, " V"]) -> float:
    """Return log sum_i e^l_i; a log-probability is its logit minus this."""
    scores = logits.numpy()
    top = scores.max()
    check_max(torch.tensor(top))
    return float(top + np.log(np.exp(scores - top).sum()))


def _pick(probs: Float[Tensor, " C"], draw: float) -> int:
    """Return the first place where the cumulative sum exceeds `draw` of the total; search blocks first."""
    missing = -len(probs) % _BLOCK
    sums = pad(probs, (0, missing)).unflatten(0, (-1, _BLOCK)).sum(1, dtype=torch.float64).cumsum(0)
    rest = draw * float(sums[-1])
    block = min(
        int(torch.searchsorted(sums, torch.tensor(rest, dtype=sums.dtype), right=True)), len(sums) - 1
    )
    part = probs[block * _BLOCK : (block + 1) * _BLOCK].double()
    rest -= float(sums[block - 1]) if block else 0.0
    place = int(torch.searchsorted(part.cumsum(0), torch.tensor(rest, dtype=part.dtype), right=True))
    last = int((part > 0).nonzero()[-1])  # the sum may round to less than `rest`
    return block * _BLOCK + min(place, last)
