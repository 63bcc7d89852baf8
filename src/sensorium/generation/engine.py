"""Many requests at once over one decoder: rows come and go, every step feeds all that are there.

In: requests, at any time and from any thread. Out: a stream of pieces for each, or the finished completions.
There is no thread of its own: whoever waits for a piece drives the engine, one step at a time, and finds the
pieces of others delivered to them. So nothing runs when nobody waits, and nothing waits for nobody.

Each request has its row, its random stream and its guide; what it writes does not depend on who is there
beside it. Does not know files, tasks or what ids stand for; `decode` is only called to look for stop strings
and to hand text out.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence

from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.generation.decoder import Decoder
from sensorium.generation.detokenizer import Decode
from sensorium.generation.request import Completion, Piece, Request
from sensorium.generation.request_state import Job

CHUNK = 256
"""Tokens of a prompt that are taken in at a step, so that a long prompt does not hold up the others."""


class Engine:
    """Continuous batching.

    Args:
        decoder: Its rows are the engine's alone.
        decode: Ids to text; without it completions have no text, and stop strings are refused.
        chunk: Most tokens of one prompt that a step takes in.

    Example:
        >>> import torch
        >>> from sensorium.generation import Engine, PlainDecoder, Request
        >>> from sensorium.models.language_model import LanguageModel, LanguageModelConfig
        >>> from sensorium.nn.block import BlockConfig
        >>> block = BlockConfig(dim=8, num_heads=2, is_causal=True, rotary_axes=1)
        >>> model = LanguageModel(LanguageModelConfig(vocab_size=31, block=block, depth=1)).eval()
        >>> engine = Engine(PlainDecoder(model, num_rows=2, capacity=16))
        >>> [len(one.ids) for one in engine.run([Request([1, 2], max_tokens=n) for n in (3, 5, 2)])]
        [3, 5, 2]
    """

    def __init__(self, decoder: Decoder, decode: Decode | None = None, *, chunk: int = CHUNK) -> None:
        self.decoder = decoder
        self._decode, self._chunk = decode, chunk
        self._rows: list[Job | None] = [None] * decoder.num_rows
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()

    @property
    def num_active(self) -> int:
        """Rows in use."""
        return sum(job is not None for job in self._rows)

    @property
    def num_waiting(self) -> int:
        """Requests without a row yet."""
        return sum(not job.is_done for job in tuple(self._waiting))

    def submit(self, request: Request) -> Stream:
        """Accept a request; it is worked on while somebody waits for this stream or another.

        Raises:
            UsageError: If the request cannot be honoured.
        """
        _check(request, self.decoder, self._decode is not None)
        job = Job(request, self.decoder.capacity, self._chunk, self._decode)
        self._waiting.append(job)
        return Stream(self, job)

    def run(self, requests: Sequence[Request]) -> list[Completion]:
        """Finish all of them, as many at a time as there are rows.

        Raises:
            UsageError: If one of them cannot be honoured; then none is worked on.
        """
        for request in requests:
            _check(request, self.decoder, self._decode is not None)
        streams = [self.submit(request) for request in requests]
        return [stream.result() for stream in streams]

    def advance(self, job: Job) -> None:
        """Take steps until `job` has something new, unless another thread's step has brought it already."""
        with self._lock:
            while not job.pieces and not job.is_done:
                self._step()

    def sweep(self) -> None:
        """Free the rows of cancelled requests, now if no step is running, else when it ends."""
        if self._lock.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._lock.release()

    def _step(self) -> None:
        self._release()
        self._admit()
        active = [(row, job) for row, job in enumerate(self._rows) if job is not None]
        if not active:
            return
        try:
            feeds = [job.feed(row) for row, job in active]
            scores = self.decoder.advance(feeds)
        except Exception as error:
            self._fail([job for _, job in active], error)
            raise
        for (_, job), feed, of_row in zip(active, feeds, scores, strict=True):
            try:
                job.take(of_row, len(feed.tokens))
            except Exception as error:  # a guide's or a tokenizer's: the others go on
                self._fail([job], error)
        self._release()

    def _admit(self) -> None:
        for row, current in enumerate(self._rows):
            while current is None and self._waiting:
                job = self._waiting.popleft()
                if not job.is_done:
                    self.decoder.clear(row, job.request.memory)
                    self._rows[row] = current = job

    def _release(self) -> None:
        for job in (*self._rows, *self._waiting):
            if job is not None and job.is_cancelled:
                job.cancel()
        self._rows = [None if job is None or job.is_done else job for job in self._rows]

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            job.error = error
        self._release()


class Stream:
    """The pieces of one request, as they come; iterate from one thread.

    Dropping the stream, or leaving its `with`, cancels what is not finished.
    """

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine, self._job = engine, job
        self._forget = weakref.finalize(self, _cancel, engine, job)
        self._forget.atexit = False

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        job = self._job
        if not job.pieces and not job.is_done:
            self._engine.advance(job)
        if job.pieces:
            return job.pieces.popleft()
        if job.error is not None:
            raise job.error
        raise StopIteration

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """End the request and free its row; does nothing where it is finished."""
        _cancel(self._engine, self._job)

    def result(self) -> Completion:
        """Wait for the end and return all of it, what was iterated over before too."""
        for _ in self:
            pass
        return self._job.completion()


def _cancel(engine: Engine, job: Job) -> None:
    if not job.is_done:
        job.is_cancelled = True
        engine.sweep()


def _check(request: Request, decoder: Decoder, has_text: bool) -> None:
    """Refuse what cannot be honoured."""
    num_prompt, capacity = len(request.prompt), decoder.capacity
    num_new = 1 if request.max_tokens is None else request.max_tokens
    if num_prompt == 0 or num_new < 1:
        raise UsageError(f"{num_prompt} tokens of prompt and max_tokens={num_new}: give at least one of each")
    if num_prompt + num_new > capacity:
        raise UsageError(
            f"a prompt of {num_prompt} tokens and {num_new} new ones do not fit a capacity of {capacity}; "
            "shorten the prompt, lower max_tokens or build the decoder with a larger capacity"
        )
    if request.stops and not has_text:
        raise UsageError("stop strings need text, but the engine has no decode; pass it or give stop_ids")
    if not isinstance(request.prompt, Tensor):
        wrong = [token for token in request.prompt if not 0 <= token < decoder.vocab_size]
        if wrong:
            raise UsageError(f"id {wrong[0]} of the prompt is not in the vocabulary of {decoder.vocab_size}")
