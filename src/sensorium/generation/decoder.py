"""What the engine drives: rows of sequences that grow by some tokens at a time and answer with scores.

In: for each row that goes on, new tokens (ids, or vectors of media) and where they stand. Out: the scores of
what comes next. `PlainDecoder` runs a `LanguageModel` as it is, in PyTorch on any device: the reference that
others are measured against. Does not know requests, sampling or text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.models.language_model import LanguageModel
from sensorium.nn.attention import KeyValues

Memory: TypeAlias = Sequence[KeyValues | None]
"""What the cross-attention of one sequence sees: `LanguageModel.memory_key_values` of a batch of one."""


@dataclass(frozen=True)
class Feed:
    """New tokens of one row.

    Attributes:
        row: Which.
        start: Position of the first new token; what stood there and after it is forgotten.
        tokens: Ids, or vectors (N, D) as `LanguageModel.embed` gives them.
        num_scored: For how many of the last tokens scores are wanted.
    """

    row: int
    start: int
    tokens: Sequence[int] | Tensor
    num_scored: int = 1


@runtime_checkable
class Decoder(Protocol):
    """Rows of sequences."""

    @property
    def vocab_size(self) -> int:
        """Number V of ids."""

    @property
    def num_rows(self) -> int:
        """Most sequences at a time."""

    @property
    def capacity(self) -> int:
        """Most tokens of a sequence."""

    def clear(self, row: int, memory: Memory | None = None) -> None:
        """Make a row empty, for a sequence that attends to `memory`."""

    def copy(self, sources: Sequence[int]) -> None:
        """Put what is in row sources[i] into row i, for all i at once; memories stay."""

    def advance(self, feeds: Sequence[Feed]) -> list[Float[Tensor, "P V"]]:
        """Take in new tokens, at most one feed a row; return each feed's scores (num_scored, V)."""


class PlainDecoder:
    """A language model's own forward, over static caches.

    Args:
        model: Where it is and in which precision; put into evaluation by the caller.
        num_rows: Most sequences at a time.
        capacity: Most tokens of a sequence.
    """

    def __init__(self, model: LanguageModel, num_rows: int = 8, capacity: int = 1024) -> None:
        learned = model.config.num_positions
        if learned and capacity > learned:
            raise UsageError(f"capacity={capacity}, but the model learned {learned} positions; ask for those")
        self._model = model
        self._num_rows, self._capacity = num_rows, capacity
        self._caches = model.new_caches(num_rows, capacity)
        self._memories: list[Memory | None] = [None] * num_rows
        self._stacked: dict[tuple[int, int], Memory] = {}

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

    def clear(self, row: int, memory: Memory | None = None) -> None:
        """Make a row empty, for a sequence that attends to `memory`."""
        for cache in self._caches:
            cache.clear([row])
        self._memories[row] = memory
        self._stacked.clear()

    def copy(self, sources: Sequence[int]) -> None:
        """Put what is in row sources[i] into row i, for all i at once; memories stay."""
        order = torch.arange(self._num_rows, device=self._device)
        order[: len(sources)] = torch.tensor(sources, device=self._device)
        for cache in self._caches:
            cache.select(order)

    @torch.inference_mode()
    def advance(self, feeds: Sequence[Feed]) -> list[Float[Tensor, "P V"]]:
        """Take in new tokens, at most one feed a row; return each feed's scores (num_scored, V)."""
        scores: dict[int, Tensor] = {}
        for run in self._runs(sorted(feeds, key=lambda feed: feed.row)):
            hidden = self._forward(run)
            for feed, of_row in zip(run, hidden, strict=True):
                scores[feed.row] = self._model.logits(of_row[None, len(of_row) - feed.num_scored :])[0]
        return [scores[feed.row] for feed in feeds]

    def _runs(self, feeds: Sequence[Feed]) -> Iterator[list[Feed]]:
        """Neighbouring rows with equally many tokens, all of them with a memory or none."""
        run: list[Feed] = []
        for feed in feeds:
            if run and not self._goes_on(run[-1], feed):
                yield run
                run = []
            run.append(feed)
        if run:
            yield run

    def _goes_on(self, last: Feed, feed: Feed) -> bool:
        has_memory = [self._memories[row] is not None for row in (last.row, feed.row)]
        is_alike = len(last.tokens) == len(feed.tokens) and has_memory[0] == has_memory[1]
        return is_alike and feed.row == last.row + 1

    def _forward(self, run: Sequence[Feed]) -> Float[Tensor, "B N D"]:
        rows = slice(run[0].row, run[-1].row + 1)
        places = torch.arange(len(run[0].tokens), device=self._device)
        positions = places + torch.tensor([[feed.start] for feed in run], device=self._device)
        x = torch.cat([self._embed(feed, positions[[place]]) for place, feed in enumerate(run)])
        caches = [cache.rows(rows) for cache in self._caches]
        for cache in caches:
            cache.limit = max(feed.start + len(feed.tokens) for feed in run)
        hidden: Tensor = self._model(x, positions=positions, memory=self._memory(rows), caches=caches)
        return hidden

    def _embed(self, feed: Feed, positions: Tensor) -> Float[Tensor, "1 N D"]:
        if isinstance(feed.tokens, Tensor):
            weight = self._model.embedding.weight
            return feed.tokens[None].to(weight.device, weight.dtype)
        return self._model.embed(torch.tensor([list(feed.tokens)], device=self._device), positions)

    def _memory(self, rows: slice) -> Memory | None:
        """The memories of some rows as one batch, padded and masked."""
        memories = self._memories[rows]
        if memories[0] is None:
            return None
        key = rows.start, rows.stop
        if key not in self._stacked:
            self._stacked[key] = [_stack(parts) for parts in zip(*memories, strict=True)]
        return self._stacked[key]

    @property
    def _device(self) -> torch.device:
        return self._model.embedding.weight.device


def _stack(parts: Sequence[KeyValues | None]) -> KeyValues | None:
    """One block's memories of several rows, padded to the longest; a single one as it is."""
    given = [part for part in parts if part is not None]
    if not given:
        return None
    if len(given) == 1:
        return given[0]
    longest = max(part.keys.shape[2] for part in given)
    keys, values = (
        torch.cat([torch.nn.functional.pad(x, (0, 0, 0, longest - x.shape[2])) for x in tensors])
        for tensors in ([part.keys for part in given], [part.values for part in given])
    )
    masks = [
        torch.ones(part.keys.shape[0], part.keys.shape[2], dtype=torch.bool, device=keys.device)
        if part.mask is None
        else part.mask
        for part in given
    ]
    padded = [torch.nn.functional.pad(mask, (0, longest - mask.shape[1])) for mask in masks]
    return KeyValues(keys, values, torch.cat(padded))
