"""A `Decoder` for CPUs: one compiled function runs a whole decoding step of a model, on a few threads.

Weights are bfloat16, int8 or int4. Activations enter matrix multiplications as bfloat16, or as int8 with a
scale for each 32. Sums, norms and the residual stream are float32; keys and values are float16. The order of
each sum is fixed, so equal requests give bit-equal logits in any batch, with any chunks of the prompt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from sensorium.core.errors import UsageError
from sensorium.core.jit import compiled, usable
from sensorium.core.runtime import Progress, quiet
from sensorium.generation.cpu.program import Limits, Program
from sensorium.generation.cpu.weights import Format, padded_size, zeros
from sensorium.generation.decoder import Feed, Memory
from sensorium.models.language_model import LanguageModel
from sensorium.nn.attention import KeyValues
from sensorium.nn.block import Block

NUM_TOKENS = 256
"""Maximum number of tokens of one run of the program; longer prompts take several runs."""
_COUNTER = 16
"""int64 numbers from one counter to the next: `kernels.LINE` bytes."""
_HEAD_OUT = 9
"""Column of the last operation that holds the address of the logits."""


class CompiledDecoder:
    """Runs a language model with compiled kernels.

    Args:
        model: Its weights are copied; later changes have no effect.
        num_rows: Maximum number of sequences.
        capacity: Maximum number of tokens of a sequence.
        weights: Format of the blocks' matrices.
        head_weights: Format of the output matrix; None: the same, but at least int8.
        num_threads: Maximum number of threads; None: the number of available processors, at most 8.
        progress: Told while the kernels are compiled, once on a machine.

    Raises:
        UsageError: If the kernels do not support the model, or numba does not work here.
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
            raise UsageError(f"capacity={capacity}, but the model has {learned} positions; ask for those")
        self._model, self.vocab_size = model, model.config.vocab_size
        self.num_rows, self.capacity = num_rows, capacity
        self._threads = self._most_threads = _num_processors() if num_threads is None else num_threads
        limits = Limits(num_rows, -(-capacity // 16) * 16, NUM_TOKENS, self._threads)
        head = ("int8" if weights == "int4" else weights) if head_weights is None else head_weights
        self._program = Program(model, limits, weights, head)
        from sensorium.generation.cpu.kernels import STEP, step  # needs numba

        self._step = compiled(step, STEP, np.dtype(np.float32), progress=progress)
        self._pool = ThreadPoolExecutor(self._threads - 1, "decoder") if self._threads > 1 else None
        shape = len(self._program.with_memory), _COUNTER * (self._threads + 1)
        self._counters = np.zeros(shape, np.int64)
        self._memories = np.zeros((model.config.depth, num_rows, 4), np.int64)
        self._memory_arrays: list[list[np.ndarray]] = [[] for _ in range(num_rows)]
        block = model.config.block
        self._eps = np.float32(block.norm_eps)
        norm = cast(Block, model.stack.blocks[0]).attention.query_norm
        self._head_eps = np.float32(1e-6 if norm is None or norm.eps is None else norm.eps)

    @property
    def num_threads(self) -> int:
        """Number of threads; can be set lower than at construction."""
        return self._threads

    @num_threads.setter
    def num_threads(self, wanted: int) -> None:
        if not 1 <= wanted <= self._most_threads:
            raise UsageError(f"num_threads={wanted}, but the decoder was built for 1 to {self._most_threads}")
        self._threads = wanted

    def clear(self, row: int, memory: Memory | None = None) -> None:
        """Empty a row; see `Decoder.clear`."""
        self._memory_arrays[row] = []
        self._memories[:, row] = 0
        for layer, part in enumerate(() if memory is None else memory):
            if part is not None:
                self._memories[layer, row] = self._keep(row, part)

    def copy(self, sources: Sequence[int]) -> None:
        """Copy rows; see `Decoder.copy`."""
        caches = self._program.caches
        caches[:, :, : len(sources)] = caches[:, :, list(sources)]

    @torch.inference_mode()
    def advance(self, feeds: Sequence[Feed]) -> list[Float[Tensor, "P V"]]:
        """Append tokens, return logits; see `Decoder.advance`."""
        sizes, counts = [len(feed.tokens) for feed in feeds], [feed.num_scored for feed in feeds]
        vectors = self._vectors(feeds)
        rows = np.repeat([feed.row for feed in feeds], sizes)
        positions = np.concatenate([np.arange(feed.start, feed.start + len(feed.tokens)) for feed in feeds])
        num_after = np.concatenate([np.arange(size - 1, -1, -1) for size in sizes])
        is_scored = num_after < np.repeat(counts, sizes)
        found, places = [], []
        for tokens, has_memory in self._runs(rows):
            found.append(
                self._run(vectors[tokens], rows[tokens], positions[tokens], is_scored[tokens], has_memory)
            )
            places.append(tokens[is_scored[tokens]])
        scores = found[0] if len(found) == 1 else torch.cat(found)[np.concatenate(places).argsort()]
        return list(scores.split(counts))

    def _vectors(self, feeds: Sequence[Feed]) -> Float[np.ndarray, "N D"]:
        """Embed all new tokens, with one lookup for consecutive feeds of ids."""
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
        """Yield the places of the tokens of each run, and whether they have a memory."""
        has_memory = np.array([bool(arrays) for arrays in self._memory_arrays])[rows]
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
        """Run the program once; return the logits of the scored tokens."""
        program = self._program
        table = program.with_memory if has_memory else program.without_memory
        program.x[: len(vectors), : vectors.shape[1]] = vectors
        scored = np.flatnonzero(is_scored)
        scores = torch.empty(-(-len(scored) // 8) * 8, padded_size(self.vocab_size))
        table[-1, _HEAD_OUT] = scores.data_ptr()
        self._counters[:] = 0
        inputs = table, program.floats, rows, positions, scored, self._memories
        arguments = *inputs, self._eps, self._head_eps, self._counters
        futures: list[Future[None]] = []
        try:
            for thread in range(1, self._threads):
                futures.append(self._submit(*arguments, thread, self._threads))
            self._step(*arguments, 0, self._threads)
        finally:  # threads that did not start are not needed; the others finish all of the work
            for future in futures:
                if not future.cancel():
                    future.result()
        return scores[: len(scored), : self.vocab_size]

    def _submit(self, *arguments: object) -> Future[None]:
        assert self._pool is not None, "one thread needs no pool"
        return self._pool.submit(self._step, *arguments)

    def _keep(self, row: int, part: KeyValues) -> tuple[int, int, int, int]:
        """Reorder a block's memory for the kernels; return addresses, number of keys, that number padded."""
        seen = slice(None) if part.mask is None else part.mask[0]
        keys, values = (one[0][:, seen].detach().float().cpu() for one in (part.keys, part.values))
        count = keys.shape[1]
        num_padded = -(-max(count, 1) // 16) * 16
        self._program.reserve_scores(num_padded)
        padded = pad(keys, (0, 0, 0, num_padded - count)).unflatten(1, (-1, 16))
        arrays = []
        for one in (padded.transpose(2, 3), pad(values, (0, 0, 0, num_padded - count))):
            halves = one.clamp(-65504, 65504).half().contiguous().numpy().view(np.uint8).reshape(-1)
            kept = zeros(halves.size)
            kept[:] = halves
            arrays.append(kept)
        self._memory_arrays[row] += arrays
        return arrays[0].ctypes.data, arrays[1].ctypes.data, count, num_padded


def _num_processors() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 8)
