"""How the next id is chosen from its scores: greedily, or at random from the likelier ones.

In: the logits of one place, and what was written before. Out: an id. In this order,

    l_i = l_i / r if l_i > 0 else l_i r    for ids written before: the penalty of CTRL, arXiv:1909.05858
    p_i = softmax_i(l / temperature)       0: the greatest l, nothing is drawn
    keep the top-k; of these the fewest whose sum is top-p or more (arXiv:1904.09751); of these the ones with
    p_i >= min-p max_j p_j (arXiv:2407.01082)

and one uniform number a place, from the request's own stream, picks among what is left. So the result of a
request depends on its seed and its scores, never on who shares its batch. Does not know what ids stand for.
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

_FIRST_LOOK = 128
"""Candidates that are sorted before it is known whether more are needed for top-p."""
_BLOCK = 256
"""Probabilities that are summed up at once when one of many is drawn."""

_COLDEST = 1e-30
"""Lowest temperature that is divided by: below it single precision has no more digits."""


class Sampling(Config):
    """How ids are chosen; the default is greedy.

    Attributes:
        temperature: Divides the scores; 0: greedy.
        top_k: Most candidates; None: all.
        top_p: Least sum of the probabilities that are kept.
        min_p: Least probability, as a share of the greatest.
        repetition_penalty: Above 1, ids of the prompt and of what was written become less likely.
        seed: Names the request's own random stream.
    """

    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)


GREEDY = Sampling()


def choose(
    logits: Float[Tensor, " V"], sampling: Sampling, written: Collection[int], stream: torch.Generator
) -> int:
    """Choose an id.

    Args:
        logits: Scores, on the CPU; minus infinity rules an id out.
        sampling: How.
        written: Ids that the penalty applies to.
        stream: From which one number is drawn, unless greedy.

    Raises:
        CheckpointError: If a score is NaN or infinite.
        UsageError: If no id is left.
    """
    if sampling.repetition_penalty != 1 and written:
        logits = penalised(logits, written, sampling.repetition_penalty)
    if sampling.temperature == 0:
        best = int(logits.numpy().argmax())
        greatest(logits[best])
        return best
    ids, odds = candidates(logits, sampling)
    draw = float(torch.rand((), dtype=torch.float64, generator=stream))
    return int(ids[_pick(odds, draw)])


def greatest(score: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The greatest of some scores, given as such, once it is known to be a number.

    Raises:
        CheckpointError: If it is NaN or plus infinity: a model's weights are not numbers, or overflow.
        UsageError: If it is minus infinity: every id was ruled out.
    """
    value = float(score)
    if value == -math.inf:
        raise UsageError("no id may come next: the grammar or the rule of the request leaves none")
    if not math.isfinite(value):
        raise CheckpointError(
            f"the model's greatest score is {value}, expected a number: its weights are damaged, or too "
            "large for the precision; fetch the model again or take precision fp32"
        )
    return score


def penalised(logits: Float[Tensor, " V"], written: Collection[int], penalty: float) -> Float[Tensor, " V"]:
    """Scores with those of ids written before made less likely."""
    places = torch.tensor(sorted(set(written)))
    scores, penalty = logits[places], min(max(penalty, _COLDEST), 1 / _COLDEST)
    changed = torch.where(scores > 0, scores / penalty, scores * penalty)
    most = torch.finfo(logits.dtype).max
    changed = torch.where(scores.isinf(), scores, changed.clamp(-most, most))
    return logits.index_put((places,), changed)


def candidates(
    logits: Float[Tensor, " V"], sampling: Sampling
) -> tuple[Int64[Tensor, " C"], Float[Tensor, " C"]]:
    """Ids that may be drawn, with their probabilities before what was left out is shared out again.

    Without any limit all ids in their order, else the likeliest first. `temperature` must be above 0.
    """
    scores = logits.float()
    scores = scores - greatest(scores.max())
    odds = torch.softmax(scores / max(sampling.temperature, _COLDEST), dim=0)
    if sampling.top_k is None and sampling.top_p == 1 and sampling.min_p == 0:
        return torch.arange(len(odds)), odds
    kept, ids = _likeliest(odds, sampling)
    kept = kept.double()
    if sampling.top_p < 1:
        sums = kept.cumsum(0)
        kept = kept[: _count_until(sums, sampling.top_p * _whole(sums, sampling))]
    kept = kept[kept >= sampling.min_p * kept[0]]
    return ids[: len(kept)], kept


def _likeliest(odds: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """As many of the likeliest as the limits can keep, sorted."""
    most = len(odds) if sampling.top_k is None else min(sampling.top_k, len(odds))
    count = min(_FIRST_LOOK, most)
    while True:
        kept, ids = odds.topk(count)
        is_enough = count == most or (sampling.top_k is None and float(kept.sum()) >= sampling.top_p)
        if is_enough and (sampling.top_p < 1 or count == most):
            return kept, ids
        if kept[-1] < sampling.min_p * kept[0]:
            return kept, ids
        count = min(8 * count, most)


def _whole(sums: Tensor, sampling: Sampling) -> float:
    """What top-p is a share of: everything, or what top-k left."""
    return 1.0 if sampling.top_k is None else float(sums[-1])


def _count_until(sums: Tensor, enough: float) -> int:
    return min(int(torch.searchsorted(sums, torch.tensor(enough, dtype=sums.dtype))) + 1, len(sums))


def log_normaliser(logits: Float[Tensor, " V"]) -> float:
    """Logarithm of the sum of e^l: what a log-probability of the model lies below its score."""
    scores = logits.numpy()
    top = scores.max()
    greatest(torch.tensor(top))
    return float(top + np.log(np.exp(scores - top).sum()))


def _pick(odds: Float[Tensor, " C"], draw: float) -> int:
    """Where the running sum passes `draw` of the whole: first among blocks, then in one."""
    missing = -len(odds) % _BLOCK
    sums = pad(odds, (0, missing)).unflatten(0, (-1, _BLOCK)).sum(1, dtype=torch.float64).cumsum(0)
    rest = draw * float(sums[-1])
    block = min(
        int(torch.searchsorted(sums, torch.tensor(rest, dtype=sums.dtype), right=True)), len(sums) - 1
    )
    part = odds[block * _BLOCK : (block + 1) * _BLOCK].double()
    rest -= float(sums[block - 1]) if block else 0.0
    place = int(torch.searchsorted(part.cumsum(0), torch.tensor(rest, dtype=part.dtype), right=True))
    last = int((part > 0).nonzero()[-1])  # rounding may point behind the end
    return block * _BLOCK + min(place, last)
