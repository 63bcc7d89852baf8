"""Beam search: the most likely sequences that a beam of some width finds.

Input: a decoder with as many rows as the beam, and a prompt. Output: hypotheses, best first, by

    score = sum_t log p(y_t | y_<t) / length^a      a = `length_power`; a stop id counts

The search ends when no live hypothesis can exceed the worst of the kept ones: a sum of log-probabilities only
decreases.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.generation.decoder import Decoder, Feed, Memory
from sensorium.generation.sampling import check_max


@dataclass(frozen=True)
class Hypothesis:
    """A sequence of the beam.

    Attributes:
        ids: Generated ids, without the stop id.
        score: Higher is better.
        is_stopped: Whether it ended by a stop id, not by its length.
    """

    ids: tuple[int, ...]
    score: float
    is_stopped: bool


@dataclass(frozen=True)
class _Live:
    ids: tuple[int, ...]
    logprob: float


def beam_search(
    decoder: Decoder,
    prompt: Sequence[int] | Tensor,
    *,
    width: int,
    max_tokens: int,
    stop_ids: Collection[int] = frozenset(),
    length_power: float = 1.0,
    memory: Memory | None = None,
) -> list[Hypothesis]:
    """Generate with beam search.

    Args:
        decoder: Not in use, with `width` rows or more.
        prompt: Ids, or embeddings (N, D).
        width: Beam width.
        max_tokens: Maximum number of new ids.
        stop_ids: Ids that end a sequence.
        length_power: 0: the sum of log-probabilities; 1: their mean.
        memory: Cross-attention keys and values.

    Raises:
        UsageError: If the decoder has too few rows or too small a capacity.
        CheckpointError: If a logit is NaN or infinite.
    """
    if not 1 <= width <= decoder.num_rows:
        raise UsageError(f"width={width}, but the decoder has {decoder.num_rows} rows")
    if len(prompt) < 1 or max_tokens < 1 or len(prompt) + max_tokens > decoder.capacity:
        raise UsageError(
            f"a prompt of {len(prompt)} tokens and {max_tokens} new ones do not fit a capacity of "
            f"{decoder.capacity}; shorten the prompt or lower max_tokens"
        )
    for row in range(width):
        decoder.clear(row, memory)
    scores = decoder.advance([Feed(0, 0, prompt)])
    live, done = [_Live((), 0.0)], list[Hypothesis]()
    for length in range(1, max_tokens + 1):
        last = torch.stack([one[-1] for one in scores]).double()
        check_max(last.max())
        logprobs = last.log_softmax(-1)
        done = _best([*done, *_stopped(live, logprobs, stop_ids, length_power)], width)
        sources, live = _grow(live, logprobs, stop_ids, width)
        if length == max_tokens or not live or _is_settled(done, live, width, max_tokens, length_power):
            break
        decoder.copy(sources)
        place = len(prompt) + length - 1
        scores = decoder.advance([Feed(row, place, [one.ids[-1]]) for row, one in enumerate(live)])
    cut = [Hypothesis(one.ids, one.logprob / len(one.ids) ** length_power, False) for one in live]
    return _best([*done, *cut], width) if length == max_tokens else done


def _stopped(
    live: Sequence[_Live], logprobs: Float[Tensor, "L V"], stop_ids: Collection[int], power: float
) -> list[Hypothesis]:
    """End each live sequence with each stop id."""
    return [
        Hypothesis(one.ids, (one.logprob + float(logprobs[row, stop])) / (len(one.ids) + 1) ** power, True)
        for row, one in enumerate(live)
        for stop in stop_ids
    ]


def _grow(
    live: Sequence[_Live], logprobs: Float[Tensor, "L V"], stop_ids: Collection[int], width: int
) -> tuple[list[int], list[_Live]]:
    """Return the `width` best continuations, and the row that each continues."""
    sums = logprobs + torch.tensor(
        [[one.logprob] for one in live], dtype=logprobs.dtype, device=logprobs.device
    )
    sums[:, list(stop_ids)] = -math.inf
    values, places = sums.flatten().topk(min(width, sums.numel()))
    kept = [
        (float(value), *divmod(int(place), sums.shape[1]))
        for value, place in zip(values, places, strict=True)
    ]
    kept = [one for one in kept if one[0] > -math.inf]
    return [row for _, row, _ in kept], [_Live((*live[row].ids, new), value) for value, row, new in kept]


def _is_settled(
    done: Sequence[Hypothesis], live: Sequence[_Live], width: int, max_tokens: int, power: float
) -> bool:
    """Whether no live sequence can still enter the kept ones."""
    if len(done) < width:
        return False
    longest = max_tokens if power > 0 else len(live[0].ids)
    return bool(max(one.logprob for one in live) / longest**power <= done[-1].score)


def _best(found: Sequence[Hypothesis], width: int) -> list[Hypothesis]:
    return sorted(found, key=lambda one: -one.score)[:width]
