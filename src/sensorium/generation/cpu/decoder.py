"""A decoder in machine code: the whole step of a model in one compiled function, on a few threads.

The same contract as `PlainDecoder`, for processors. Weights are bfloat16, 8 or 4 bits; activations enter
products as bfloat16 or as bytes with a scale for each 32 of them; sums, norms and what runs between the
blocks are float32; keys and values are kept as float16. Every sum has its own order, whoever else is there,
however a prompt is cut: so equal requests give equal bits, alone or among others, guessed or not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.core.jit import compiled, usable
from sensorium.core.runtime import Progress, quiet
from sensorium.generation.cpu.program import Program, Room
from sensorium.generation.cpu.weights import Format, whole, zeros
from sensorium.generation.decoder import Feed, Memory
from sensorium.models.language_model import LanguageModel
from sensorium.nn.attention import KeyValues
from sensorium.nn.block import Block

NUM_TOKENS = 256
"""Tokens that one run of the program takes; longer prompts run several times."""
_COUNTER = 16
"""Numbers from one counter to the next: `kernels.LINE` bytes."""
_HEAD_OUT = 9
"""Column of the last operation in which the address of the scores stands."""


class CompiledDecoder:
    """A language model in machine code.

    Args:
        model: Its weights are packed now; later changes are not seen.
        num_rows: Most sequences at a time.
        capacity: Most tokens of a sequence.
        weights: Format of the blocks' matrices.
        head_weights: Format of the output matrix; None: the same, but at least 8 bits.
        num_threads: Most threads of a step; None: as many as the process may use processors, at most 8.
        progress: Told while the kernels are compiled, which happens once on a machine.

    Raises:
        UsageError: If the model is of a kind that the kernels do not know, or numba does not work here.
    """

    def __init__(
        self,
        model: LanguageModel,
        num_rows: int = 8,
        capacity: int = 1024,
        *,
        weights: Format = "bf16",
        head_weights: Format | None = None,
        num_threads: int | None = None,
        progress: Progress = quiet,
    ) -> None:
        if not usable():
            raise UsageError("numba does not work here; use PlainDecoder")
        learned = model.config.num_positions
        if learned and capacity > learned:
            raise UsageError(f"capacity={capacity}, but the model learned {learned} positions; ask for those")
        self._model, self._num_rows, self._capacity = model, num_rows, capacity
        self._threads = self._most_threads = _num_processors() if num_threads is None else num_threads
        room = Room(num_rows, -(-capacity // 16) * 16, NUM_TOKENS, self._threads)
        head = ("int8" if weights == "int4" else weights) if head_weights is None else head_weights
        self._program = Program(model, room, weights, head)
        self._step = _step_function(progress)
        self._others = ThreadPoolExecutor(self._threads - 1, "decoder") if self._threads > 1 else None
        shape = len(self._program.with_memory), _COUNTER * (self._threads + 1)
        self._counters = np.zeros(shape, np.int64)
        self._memories = np.zeros((model.config.depth, num_rows, 4), np.int64)
        self._held: list[list[np.ndarray]] = [[] for _ in range(num_rows)]
        block = model.config.block
        self._eps = np.float32(block.norm_eps)
        norm = cast(Block, model.stack.blocks[0]).attention.query_norm
        self._head_eps = np.float32(1e-6 if norm is None or norm.eps is None else norm.eps)

    @property
    def vocab_size(self) -> int:
        """Number V of ids."""
        return self._model.config.vocab_size

    @property
    def num_rows(self) -> int:
        """Most sequences at a time."""
        return self._num_rows

    @property
    def capacity(self) -> int:
        """Most tokens of a sequence."""
        return self._capacity

    @property
    def num_threads(self) -> int:
        """Threads of a step; may be lowered where the processors have other work."""
        return self._threads

    @num_threads.setter
    def num_threads(self, wanted: int) -> None:
        if not 1 <= wanted <= self._most_threads:
            raise UsageError(f"num_threads={wanted}, but the decoder was built for 1 to {self._most_threads}")
        self._threads = wanted

    @property
    def weight_bytes(self) -> int:
        """What a step reads of weights."""
        return len(self._program.weights)

    def clear(self, row: int, memory: Memory | None = None) -> None:
        """Make a row empty, for a sequence that attends to `memory`."""
        self._held[row] = []
        self._memories[:, row] = 0
        for layer, part in enumerate(() if memory is None else memory):
            if part is not None:
                self._memories[layer, row] = self._keep(row, part)

    def copy(self, sources: Sequence[int]) -> None:
        """Put what is in row sources[i] into row i, for all i at once; memories stay."""
        caches = self._program.caches
        caches[:, :, : len(sources)] = caches[:, :, list(sources)]

    @torch.inference_mode()
    def advance(self, feeds: Sequence[Feed]) -> list[Float[Tensor, "P V"]]:
        """Take in new tokens, at most one feed a row; return each feed's scores (num_scored, V)."""
        sizes, counts = [len(feed.tokens) for feed in feeds], [feed.num_scored for feed in feeds]
        vectors = self._vectors(feeds)
        rows = np.repeat([feed.row for feed in feeds], sizes)
        positions = np.concatenate([np.arange(feed.start, feed.start + len(feed.tokens)) for feed in feeds])
        behind = np.concatenate([np.arange(size - 1, -1, -1) for size in sizes])
        is_scored = behind < np.repeat(counts, sizes)
        found, places = [], []
        for tokens, has_memory in self._runs(rows):
            found.append(
                self._run(vectors[tokens], rows[tokens], positions[tokens], is_scored[tokens], has_memory)
            )
            places.append(tokens[is_scored[tokens]])
        scores = found[0] if len(found) == 1 else torch.cat(found)[np.concatenate(places).argsort()]
        return list(scores.split(counts))

    def _vectors(self, feeds: Sequence[Feed]) -> Float[np.ndarray, "N D"]:
        """All new tokens embedded, one lookup for the ids of neighbours."""
        parts: list[Tensor] = []
        ids: list[int] = []
        places: list[int] = []
        for feed in (*feeds, None):
            given = None if feed is None else feed.tokens
            if feed is not None and not isinstance(given, Tensor):
                ids += feed.tokens
                places += range(feed.start, feed.start + len(feed.tokens))
                continue
            if ids:
                parts.append(self._model.embed(torch.tensor([ids]), torch.tensor([places]))[0])
                ids, places = [], []
            if isinstance(given, Tensor):
                parts.append(given)
        found: np.ndarray = torch.cat([part.float().cpu() for part in parts]).numpy()
        return found

    def _runs(self, rows: Int64[np.ndarray, " N"]) -> Iterator[tuple[Int64[np.ndarray, " n"], bool]]:
        """Places of tokens that run together, as many as the program takes; whether they have a memory."""
        has_memory = np.array([bool(held) for held in self._held])[rows]
        for wanted in (False, True):
            chosen = np.flatnonzero(has_memory == wanted)
            for first in range(0, len(chosen), NUM_TOKENS):
                yield chosen[first : first + NUM_TOKENS], wanted

    def _run(
        self,
        vectors: Float[np.ndarray, "n D"],
        rows: Int64[np.ndarray, " n"],
        positions: Int64[np.ndarray, " n"],
        is_scored: Bool[np.ndarray, " n"],
        has_memory: bool,
    ) -> Float[Tensor, "p V"]:
        """One run of the program; scores of the scored tokens."""
        program = self._program
        table = program.with_memory if has_memory else program.without_memory
        program.x[: len(vectors), : vectors.shape[1]] = vectors
        scored = np.flatnonzero(is_scored)
        scores = torch.empty(-(-len(scored) // 8) * 8, whole(self.vocab_size))
        table[-1, _HEAD_OUT] = scores.data_ptr()
        self._counters[:] = 0
        inputs = table, program.floats, rows, positions, scored, self._memories
        arguments = *inputs, self._eps, self._head_eps, self._counters
        others: list[Future[None]] = []
        try:
            for thread in range(1, self._threads):
                others.append(self._submit(*arguments, thread, self._threads))
            self._step(*arguments, 0, self._threads)
        finally:  # who did not begin is not needed; who did goes on to the end, if need be alone
            for other in others:
                if not other.cancel():
                    other.result()
        return scores[: len(scored), : self.vocab_size]

    def _submit(self, *arguments: object) -> Future[None]:
        assert self._others is not None, "one thread needs no others"
        return self._others.submit(self._step, *arguments)

    def _keep(self, row: int, part: KeyValues) -> tuple[int, int, int, int]:
        """Lay a block's memory out for the kernels: addresses, how many keys there are, room for how many."""
        seen = slice(None) if part.mask is None else part.mask[0]
        keys, values = (one[0][:, seen].detach().float().cpu() for one in (part.keys, part.values))
        count = keys.shape[1]
        held = -(-max(count, 1) // 16) * 16
        self._program.make_room_for(held)
        padded = torch.nn.functional.pad(keys, (0, 0, 0, held - count)).unflatten(1, (-1, 16))
        arrays = []
        for one in (padded.transpose(2, 3), torch.nn.functional.pad(values, (0, 0, 0, held - count))):
            halves = one.clamp(-65504, 65504).half().contiguous().numpy().view(np.uint8).reshape(-1)
            kept = zeros(halves.size)
            kept[:] = halves
            arrays.append(kept)
        self._held[row] += arrays
        return arrays[0].ctypes.data, arrays[1].ctypes.data, count, held


def _step_function(progress: Progress) -> Any:
    from sensorium.generation.cpu.kernels import STEP, step

    return compiled(step, STEP, np.dtype(np.float32), progress=progress)


def _num_processors() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 8)
