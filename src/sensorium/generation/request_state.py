"""State of one request in the engine: its next input, the ids chosen from its logits, and its end.

Prompt lookup decoding: the ids that followed an earlier occurrence of the last ids are fed as a draft. Those
that the request would have chosen anyway are accepted, so that the result does not change (speculative
decoding, arXiv:2211.17192, without a draft model).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.core.runtime import generator
from sensorium.generation.decoder import Feed
from sensorium.generation.detokenizer import Decode, Detokenizer
from sensorium.generation.request import Choice, Completion, Piece, Reason, Request
from sensorium.generation.sampling import choose, log_normaliser

_LONGEST_MATCH, _SHORTEST_MATCH = 4, 2


class RequestState:
    """State of one request.

    Args:
        request: The request.
        capacity: Maximum number of tokens of a row.
        chunk: Maximum number of prompt tokens of a step.
        decode: Ids to text; None: no text is made.
    """

    def __init__(self, request: Request, capacity: int, chunk: int, decode: Decode | None) -> None:
        self.request = request
        self.pieces: deque[Piece] = deque()
        self.reason: Reason | None = None
        self.error: Exception | None = None
        self.is_cancelled = False
        room = capacity - len(request.prompt)
        self._limit = room if request.max_tokens is None else request.max_tokens
        self._chunk = chunk
        self._num_fed = 0
        self._prompt: list[int] = [] if isinstance(request.prompt, Tensor) else list(request.prompt)
        self._choices: list[Choice] = []
        self._draft: list[int] = []
        self._num_accepted = 0
        self._stream = generator(request.sampling.seed)
        self._detokenizer = None if decode is None else Detokenizer(decode, request.stops)
        self._text = ""
        self._num_emitted = 0

    @property
    def is_done(self) -> bool:
        """Whether the request has ended, also by an error."""
        return self.reason is not None or self.error is not None

    def feed(self, row: int) -> Feed:
        """Return the row's next input: a chunk of the prompt, or the last id and a draft."""
        prompt = self.request.prompt
        if self._num_fed < len(prompt):
            part = prompt[self._num_fed : self._num_fed + self._chunk]
            is_last = self._num_fed + len(part) == len(prompt)
            return Feed(row, self._num_fed, part, num_scored=int(is_last))
        most = min(self.request.lookup, self._limit - len(self._choices) - 1)
        self._draft = prompt_lookup(self._all_ids(), most) if most > 0 else []
        tokens = [self._choices[-1].id, *self._draft]
        return Feed(row, self._num_fed, tokens, num_scored=len(tokens))

    def take(self, scores: Float[Tensor, "P V"], num_fed: int) -> None:
        """Choose ids from the logits of the last `feed`."""
        if len(scores) == 0:
            self._num_fed += num_fed
            return
        self._num_fed += num_fed - len(self._draft)
        new: list[Choice] = []
        for place, logits in enumerate(scores):
            choice = self._choose(logits)
            if choice.id in self.request.stop_ids:
                self.reason = "stop"
                break
            new.append(choice)
            self._append(choice)
            if self.is_done or place >= len(self._draft) or self._draft[place] != choice.id:
                break
            self._num_fed += 1
            self._num_accepted += 1
        self._draft = []
        self._emit(new)

    def cancel(self) -> None:
        """End the request now; text that was held back is emitted."""
        if not self.is_done:
            self.reason = "cancelled"
            self._emit([])

    def completion(self) -> Completion:
        """Return the result of a finished request."""
        assert self.reason is not None, "the request is not finished"
        num_prompt = len(self.request.prompt)
        return Completion(tuple(self._choices), self._text, self.reason, num_prompt, self._num_accepted)

    def _choose(self, logits: Float[Tensor, " V"]) -> Choice:
        request = self.request
        logits = logits.cpu() if logits.dtype == torch.float64 else logits.cpu().float()
        scores = logits
        if request.guide is not None:
            scores = logits.masked_fill(~request.guide.allowed(), -torch.inf)
        if request.logits_processor is not None:
            scores = request.logits_processor(scores, [choice.id for choice in self._choices])
        penalised = self._all_ids() if request.sampling.repetition_penalty != 1 else ()
        chosen = choose(scores, request.sampling, penalised, self._stream)
        normaliser = log_normaliser(logits)
        alternatives = _alternatives(logits, normaliser, request.num_alternatives)
        return Choice(chosen, float(logits[chosen]) - normaliser, alternatives)

    def _append(self, choice: Choice) -> None:
        """Append a choice; set `reason` if it ends the sequence."""
        self._choices.append(choice)
        guide, detokenizer = self.request.guide, self._detokenizer
        if guide is not None:
            guide.accept(choice.id)
        if detokenizer is not None:
            self._text += detokenizer.push(choice.id)
        is_stopped = detokenizer is not None and detokenizer.stop is not None
        if is_stopped or (guide is not None and guide.is_finished):
            self.reason = "stop"
        elif len(self._choices) >= self._limit:
            self.reason = "length"

    def _emit(self, new: Sequence[Choice]) -> None:
        if self.is_done and self._detokenizer is not None:
            self._text += self._detokenizer.finish()
        self.pieces.append(Piece(tuple(new), self._text[self._num_emitted :]))
        self._num_emitted = len(self._text)

    def _all_ids(self) -> list[int]:
        return self._prompt + [choice.id for choice in self._choices]


def prompt_lookup(ids: Sequence[int], count: int) -> list[int]:
    """Return up to `count` ids that followed the latest earlier occurrence of the last ids.

    The last 4 ids are searched for first, then 3, then 2.

    Example:
        >>> prompt_lookup([5, 6, 7, 8, 1, 5, 6], 2)
        [7, 8]
        >>> prompt_lookup([5, 6, 7], 2)
        []
    """
    for size in range(min(_LONGEST_MATCH, len(ids) - 1), _SHORTEST_MATCH - 1, -1):
        last = list(ids[-size:])
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start] == last[0] and list(ids[start : start + size]) == last:
                return list(ids[start + size : start + size + count])
    return []


def _alternatives(
    logits: Float[Tensor, " V"], normaliser: float, count: int
) -> tuple[tuple[int, float], ...]:
    if count == 0:
        return ()
    values, ids = logits.topk(min(count, len(logits)))
    logprobs = (values - normaliser).tolist()
    return tuple(zip(cast(list[int], ids.tolist()), cast(list[float], logprobs), strict=True))
