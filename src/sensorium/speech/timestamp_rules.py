"""What a transcript with times may look like: Whisper's rules for the next id.

In: the scores of each step and the ids so far. Out: scores in which what may not come is ruled out. A
transcript is `<|0.00|> text <|2.40|><|2.40|> text ...`: it opens with marks and a time, times come in pairs
but for the last, never go back, and where all times together are likelier than any piece of text, a time
comes (`ApplyTimestampRules` of Whisper's code). On the way it keeps what is needed to judge the transcript:
the odds that there is no speech, and those of what was written among what was allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class TimedIds:
    """Where a vocabulary has its marks.

    Attributes:
        vocab_size: Number V of ids.
        end: The id that ends a transcript; those below it are text.
        no_speech: The id whose odds at the first step say that there is no speech.
        no_times: The id that asks for a text without times.
        first_time: The id of 0 s; all from it on are times.
        suppressed: Ids that never come.
        first_suppressed: Ids that do not come first.
    """

    vocab_size: int
    end: int
    no_speech: int
    no_times: int
    first_time: int
    suppressed: Collection[int] = ()
    first_suppressed: Collection[int] = ()


class TimedText:
    """The rules for one transcript: a `generation.Rule`.

    Args:
        ids: The vocabulary.
        opening: Marks that come first, in order; each may be one of several ids.
        most_first: The first time is at most this many steps after 0.

    Attributes:
        no_speech: Probability that there is no speech; known after the first step.
    """

    def __init__(self, ids: TimedIds, opening: Sequence[Collection[int]] = (), most_first: int = 50) -> None:
        self._ids, self._opening, self._most_first = ids, opening, most_first
        self._is_timed = all(ids.no_times not in mark for mark in opening)
        self._never = torch.zeros(ids.vocab_size)
        self._never[[*ids.suppressed, ids.no_times]] = -torch.inf
        self._logprobs: list[float] = []
        self._last: Tensor | None = None
        self.no_speech = 0.0

    def __call__(self, scores: Float[Tensor, " V"], written: Sequence[int]) -> Float[Tensor, " V"]:
        """Rule out what may not come."""
        scores = scores.float()
        if not written:
            self.no_speech = float((scores[self._ids.no_speech] - scores.logsumexp(0)).exp())
        if len(written) < len(self._opening):
            return _only(scores, self._opening[len(written)])
        text = written[len(self._opening) :]
        self._note(text[-1:])
        allowed = scores + self._never.to(scores.device)
        if not text:
            allowed[list(self._ids.first_suppressed)] = -torch.inf
        if self._is_timed:
            self._time(allowed, text)
        self._last = allowed
        return allowed

    def finish(self, text: Sequence[int], is_ended: bool) -> float:
        """Return the mean log-probability of all ids of a finished transcript, its end among them.

        Args:
            text: What was written, without the opening.
            is_ended: Whether the end came, and not the end of the room.
        """
        self._note([self._ids.end] if is_ended else text[-1:])
        return sum(self._logprobs) / (len(text) + 1)

    def _note(self, chosen: Sequence[int]) -> None:
        """Keep the log-probability of what was chosen by the last scores."""
        if self._last is not None:
            self._logprobs += [float(self._last[one] - self._last.logsumexp(0)) for one in chosen]

    def _time(self, scores: Float[Tensor, " V"], text: Sequence[int]) -> None:
        first_time = self._ids.first_time
        if not text:
            scores[:first_time] = -torch.inf
            scores[first_time + self._most_first + 1 :] = -torch.inf
            return
        is_time = [one >= first_time for one in text[-2:]]
        if is_time[-1]:
            if is_time[0]:  # a pair, or the first of all
                scores[first_time:] = -torch.inf
            else:
                scores[: self._ids.end] = -torch.inf
        times = [one for one in text if one >= first_time]
        # A text lasts: only the second time of a pair may equal the one before it.
        is_second = is_time[-1] and not is_time[0]
        scores[first_time : times[-1] + (0 if is_second else 1)] = -torch.inf
        if scores[first_time:].logsumexp(0) > scores[:first_time].max():
            scores[:first_time] = -torch.inf


def _only(scores: Float[Tensor, " V"], ids: Collection[int]) -> Float[Tensor, " V"]:
    places = torch.tensor(sorted(ids), device=scores.device)
    return torch.full_like(scores, -torch.inf).index_copy(0, places, scores[places])
