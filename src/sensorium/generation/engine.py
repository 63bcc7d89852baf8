"""Continuous batching: an engine runs many requests over one decoder, and each step feeds all active rows.

Requests may be submitted at any time and from any thread. The engine has no thread of its own: reading a
`Stream` takes steps until this stream has a new piece, and pieces of other requests are queued for their
streams. The result of a request does not depend on the other requests. The engine knows ids, not media or
tasks; it calls `decode` only to find stop strings and to return text.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.core.jit import usable
from sensorium.core.runtime import Progress, quiet
from sensorium.generation.cpu.decoder import CompiledDecoder
from sensorium.generation.decoder import Decoder, PlainDecoder
from sensorium.generation.detokenizer import Decode
from sensorium.generation.request import Completion, Piece, Request
from sensorium.generation.request_state import RequestState
from sensorium.models.language_model import LanguageModel

CHUNK = 256
"""Prompt tokens of one step (chunked prefill): a long prompt does not delay the other requests."""
Precision: TypeAlias = Literal["fp32", "bf16", "int8", "int4"]
"""Of the decoder's weights. On CPUs all but fp32 use the compiled decoder."""


def fastest_decoder(
    model: LanguageModel,
    num_rows: int,
    capacity: int,
    precision: Precision = "bf16",
    *,
    progress: Progress = quiet,
) -> Decoder:
    """Build the fastest decoder that supports a model on its device: compiled, or else in PyTorch.

    Args:
        model: In evaluation mode.
        num_rows: Maximum number of sequences.
        capacity: Maximum number of tokens of a sequence.
        precision: "fp32": PyTorch, in the model's own type; "bf16": compiled, or PyTorch where that is not
            supported; "int8", "int4": compiled only.
        progress: Told while kernels are compiled, once on a machine.

    Raises:
        UsageError: If int8 or int4 is not supported here.
    """
    if precision == "fp32":
        return PlainDecoder(model, num_rows, capacity)
    failure = "numba does not work here"
    if model.embedding.weight.device.type != "cpu":
        failure = f"the model is on {model.embedding.weight.device}"
    elif usable():
        threads = min(torch.get_num_threads(), 8)
        try:
            return CompiledDecoder(
                model, num_rows, capacity, weights=precision, num_threads=threads, progress=progress
            )
        except UsageError as error:
            failure = str(error)
    if precision != "bf16":
        raise UsageError(f"{precision} needs the compiled decoder on a CPU, but {failure}; use bf16")
    return PlainDecoder(model, num_rows, capacity)


class Engine:
    """Runs requests in the rows of a decoder.

    Args:
        decoder: Used by this engine only.
        decode: Ids to text; None: completions have no text, and stop strings are refused.
        chunk: Maximum number of prompt tokens of one request in a step.

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
        self._rows: list[RequestState | None] = [None] * decoder.num_rows
        self._waiting: deque[RequestState] = deque()
        self._lock = threading.Lock()

    @property
    def num_active(self) -> int:
        """Rows in use."""
        return sum(state is not None for state in self._rows)

    @property
    def num_waiting(self) -> int:
        """Requests without a row yet."""
        return sum(not state.is_done for state in tuple(self._waiting))

    def submit(self, request: Request) -> Stream:
        """Queue a request; it runs while any stream of the engine is read.

        Raises:
            UsageError: If the request is invalid.
        """
        _check(request, self.decoder, self._decode is not None)
        state = RequestState(request, self.decoder.capacity, self._chunk, self._decode)
        self._waiting.append(state)
        return Stream(self, state)

    def run(self, requests: Sequence[Request]) -> list[Completion]:
        """Run requests to their end.

        Raises:
            UsageError: If one of them is invalid; then none is run.
        """
        for request in requests:
            _check(request, self.decoder, self._decode is not None)
        streams = [self.submit(request) for request in requests]
        return [stream.result() for stream in streams]

    def advance(self, state: RequestState) -> None:
        """Take steps until a request has a new piece or has ended."""
        with self._lock:
            while not state.pieces and not state.is_done:
                self._step()

    def sweep(self) -> None:
        """Free the rows of cancelled requests: now, or at the end of a running step."""
        if self._lock.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._lock.release()

    def _step(self) -> None:
        self._release()
        self._admit()
        active = [(row, state) for row, state in enumerate(self._rows) if state is not None]
        if not active:
            return
        try:
            feeds = [state.feed(row) for row, state in active]
            scores = self.decoder.advance(feeds)
        except Exception as error:
            self._fail([state for _, state in active], error)
            raise
        for (_, state), feed, of_row in zip(active, feeds, scores, strict=True):
            try:
                state.take(of_row, len(feed.tokens))
            except Exception as error:  # of a guide or tokenizer: the other requests continue
                self._fail([state], error)
        self._release()

    def _admit(self) -> None:
        for row, current in enumerate(self._rows):
            while current is None and self._waiting:
                state = self._waiting.popleft()
                if not state.is_done:
                    self.decoder.clear(row, state.request.memory)
                    self._rows[row] = current = state

    def _release(self) -> None:
        for state in (*self._rows, *self._waiting):
            if state is not None and state.is_cancelled:
                state.cancel()
        self._rows = [None if state is None or state.is_done else state for state in self._rows]

    def _fail(self, states: Sequence[RequestState], error: Exception) -> None:
        for state in states:
            state.error = error
        self._release()


class Stream:
    """Pieces of one request, in order; iterate from one thread.

    Leaving its `with` block, or deleting the stream, cancels an unfinished request.
    """

    def __init__(self, engine: Engine, state: RequestState) -> None:
        self._engine, self._state = engine, state
        self._finalizer = weakref.finalize(self, _cancel, engine, state)
        self._finalizer.atexit = False

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        state = self._state
        if not state.pieces and not state.is_done:
            self._engine.advance(state)
        if state.pieces:
            return state.pieces.popleft()
        if state.error is not None:
            raise state.error
        raise StopIteration

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """End the request and free its row; a finished one is left as it is."""
        _cancel(self._engine, self._state)

    def result(self) -> Completion:
        """Wait for the end; return the whole result, also pieces that were iterated over before."""
        for _ in self:
            pass
        return self._state.completion()


def _cancel(engine: Engine, state: RequestState) -> None:
    if not state.is_done:
        state.is_cancelled = True
        engine.sweep()


def _check(request: Request, decoder: Decoder, has_text: bool) -> None:
    """Refuse an invalid request."""
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
        raise UsageError("stop strings need text, but the engine has no decode; pass it, or give stop_ids")
    if not isinstance(request.prompt, Tensor):
        wrong = [token for token in request.prompt if not 0 <= token < decoder.vocab_size]
        if wrong:
            raise UsageError(f"id {wrong[0]} of the prompt is not in the vocabulary of {decoder.vocab_size}")
