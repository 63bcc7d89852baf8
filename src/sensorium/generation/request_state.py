"""One request on its way: what it feeds next, what it makes of the scores, when it ends.

In: a request, then the scores of each step. Out: what its row takes in next, and pieces for whoever waits.
Knows nothing of other requests.
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
from sensorium.generation.detokenizer import Decode, TextStream
from sensorium.generation.lookup import guesses
from sensorium.generation.request import Choice, Completion, Piece, Reason, Request
from sensorium.generation.sampling import choose, log_normaliser


class Job:
    """A request's progress.

    Args:
        request: What is asked.
        capacity: Most tokens of a row.
        chunk: Most tokens of the prompt that are fed at once.
        decode: Ids to text; None: there is no text.
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
        self._fed = 0
        self._prompt: list[int] = [] if isinstance(request.prompt, Tensor) else list(request.prompt)
        self._choices: list[Choice] = []
        self._guesses: list[int] = []
        self._num_guessed = 0
        self._stream = generator(request.sampling.seed)
        self._text = None if decode is None else TextStream(decode, request.stops)
        self._parts: list[str] = []
        self._num_emitted = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing comes any more."""
        return self.reason is not None or self.error is not None

    def feed(self, row: int) -> Feed:
        """What the row takes in next: a part of the prompt, or the last id and guesses."""
        prompt = self.request.prompt
        if self._fed < len(prompt):
            part = prompt[self._fed : self._fed + self._chunk]
            is_last = self._fed + len(part) == len(prompt)
            return Feed(row, self._fed, part, num_scored=int(is_last))
        self._guesses = self._guess()
        tokens = [self._choices[-1].id, *self._guesses]
        return Feed(row, self._fed, tokens, num_scored=len(tokens))

    def take(self, scores: Float[Tensor, "P V"], num_fed: int) -> None:
        """Go on by the scores of what `feed` gave."""
        if len(scores) == 0:
            self._fed += num_fed
            return
        self._fed += num_fed - len(self._guesses)
        new: list[Choice] = []
        for place, logits in enumerate(scores):
            choice = self._choose(logits)
            if choice.id in self.request.stop_ids:
                self.reason = "stop"
                break
            new.append(choice)
            self._note(choice)
            if self.is_done or place >= len(self._guesses) or self._guesses[place] != choice.id:
                break
            self._fed += 1
            self._num_guessed += 1
        self._guesses = []
        self._emit(new)

    def cancel(self) -> None:
        """End now; what was held back is let go."""
        if not self.is_done:
            self.reason = "cancelled"
            self._emit([])

    def completion(self) -> Completion:
        """All of it; the job must be done."""
        assert self.reason is not None, "the job is not done"
        text = "".join(self._parts)
        num_prompt = len(self.request.prompt)
        return Completion(tuple(self._choices), text, self.reason, num_prompt, self._num_guessed)

    def _choose(self, logits: Float[Tensor, " V"]) -> Choice:
        request = self.request
        logits = logits.cpu() if logits.dtype == torch.float64 else logits.cpu().float()
        scores = logits
        if request.guide is not None:
            scores = logits.masked_fill(~request.guide.allowed(), -torch.inf)
        if request.rule is not None:
            scores = request.rule(scores, [choice.id for choice in self._choices])
        written = self._written() if request.sampling.repetition_penalty != 1 else ()
        chosen = choose(scores, request.sampling, written, self._stream)
        whole = log_normaliser(logits)
        alternatives = _likeliest(logits, whole, request.num_alternatives)
        return Choice(chosen, float(logits[chosen]) - whole, alternatives)

    def _note(self, choice: Choice) -> None:
        """Write down a choice, and see whether it ends the sequence."""
        self._choices.append(choice)
        guide = self.request.guide
        if guide is not None:
            guide.accept(choice.id)
        if self._text is not None:
            self._parts.append(self._text.push(choice.id))
        is_stopped = self._text is not None and self._text.stop is not None
        if is_stopped or (guide is not None and guide.is_finished):
            self.reason = "stop"
        elif len(self._choices) >= self._limit:
            self.reason = "length"

    def _emit(self, new: Sequence[Choice]) -> None:
        if self.is_done and self._text is not None:
            self._parts.append(self._text.finish())
        text = "".join(self._parts)
        self._parts = [text]
        self.pieces.append(Piece(tuple(new), text[self._num_emitted :]))
        self._num_emitted = len(text)

    def _guess(self) -> list[int]:
        room = min(self.request.lookup, self._limit - len(self._choices) - 1)
        return guesses(self._written(), room) if room > 0 else []

    def _written(self) -> list[int]:
        return self._prompt + [choice.id for choice in self._choices]


def _likeliest(logits: Float[Tensor, " V"], whole: float, count: int) -> tuple[tuple[int, float], ...]:
    if count == 0:
        return ()
    values, ids = logits.topk(min(count, len(logits)))
    logprobs = (values - whole).tolist()
    return tuple(zip(cast(list[int], ids.tolist()), cast(list[float], logprobs), strict=True))
