"""The `Decoder` interface: a batch of token sequences with key-value caches; new tokens in, logits out.

`PlainDecoder` runs a `LanguageModel` in PyTorch on any device. It is the reference for other implementations
(`cpu.decoder`). `GuidedDecoder` adds classifier-free guidance. Decoders do not sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from sensorium.core.errors import UsageError
from sensorium.models.language_model import LanguageModel
from sensorium.nn.attention import KeyValues

Memory: TypeAlias = Sequence[KeyValues | None]
"""Cross-attention keys and values of one sequence: `LanguageModel.memory_key_values` of a batch of one."""


@dataclass(frozen=True)
class Feed:
    """New tokens of one row.

    Attributes:
        row: Row of the decoder.
        start: Position of the first new token. Cached tokens at this and later positions are overwritten.
        tokens: Ids, or embeddings (N, D) from `LanguageModel.embed`.
        num_scored: Number of last tokens whose logits are returned.
    """

    row: int
    start: int
    tokens: Sequence[int] | Tensor
    num_scored: int = 1


@runtime_checkable
class Decoder(Protocol):
    """Sequences that grow, one in each row.

    Attributes:
        vocab_size: Number V of ids.
        num_rows: Maximum number of sequences.
        capacity: Maximum number of tokens of a sequence.
    """

    vocab_size: int
    num_rows: int
    capacity: int

    def clear(self, row: int, memory: Memory | None = None) -> None:
        """Empty a row for a new sequence that attends to `memory`."""

    def copy(self, sources: Sequence[int]) -> None:
        """Copy the cache of row sources[i] to row i, for all i at once; memories are not copied."""

    def advance(self, feeds: Sequence[Feed]) -> list[Float[Tensor, "P V"]]:
        """Append tokens, at most one feed for each row; return the logits (num_scored, V) of each feed."""


class PlainDecoder:
    """Runs a language model's forward pass over static caches, on the model's device and in its precision.

    Args:
        model: In evaluation mode.
        num_rows: Maximum number of sequences.
        capacity: Maximum number of tokens of a sequence.
    """

    def __init__(self, model: LanguageModel, num_rows: int = 8, capacity: int = 1024) -> None:
        learned = model.config.num_positions
        if learned and capacity > learned:
            raise UsageError(f"capacity={capacity}, but the model has {learned} positions; ask for those")
        self._model, self.vocab_size = model, model.config.vocab_size
        self.num_rows, self.capacity = num_rows, capacity
        self._caches = model.new_caches(num_rows, capacity)
        self._memories: list[Memory | None] = [None] * num_rows
        self._stacked: dict[tuple[int, int], Memory] = {}

    def clear(self, row: int, memory: Memory | None = None) -> None:
        """Empty a row; see `Decoder.clear`."""
        for cache in self._caches:
            cache.clear([row])
        self._memories[row] = memory
        self._stacked.clear()

    def copy(self, sources: Sequence[int]) -> None:
        """Copy rows; see `Decoder.copy`."""
        order = torch.arange(self.num_rows, device=self._device)
        order[: len(sources)] = torch.tensor(sources, device=self._device)
        for cache in self._caches:
            cache.select(order)

    @torch.inference_mode()
    def advance(self, feeds: Sequence[Feed]) -> list[Float[Tensor, "P V"]]:
        """Append tokens, return logits; see `Decoder.advance`."""
        logits: dict[int, Tensor] = {}
        for batch in self._batches(sorted(feeds, key=lambda feed: feed.row)):
            for feed, hidden in zip(batch, self._forward(batch), strict=True):
                logits[feed.row] = self._model.logits(hidden[None, len(hidden) - feed.num_scored :])[0]
        return [logits[feed.row] for feed in feeds]

    def _batches(self, feeds: Sequence[Feed]) -> Iterator[list[Feed]]:
        """Group consecutive rows with equal numbers of tokens, either all or none of them with a memory."""

        def group(place: int) -> tuple[int, int, bool]:
            feed = feeds[place]
            return feed.row - place, len(feed.tokens), self._memories[feed.row] is not None

        for _, places in groupby(range(len(feeds)), group):
            yield [feeds[place] for place in places]

    def _forward(self, batch: Sequence[Feed]) -> Float[Tensor, "B N D"]:
        rows = slice(batch[0].row, batch[-1].row + 1)
        offsets = torch.arange(len(batch[0].tokens), device=self._device)
        positions = offsets + torch.tensor([[feed.start] for feed in batch], device=self._device)
        x = torch.cat([self._embed(feed, positions[[place]]) for place, feed in enumerate(batch)])
        caches = [cache.rows(rows) for cache in self._caches]
        for cache in caches:
            cache.limit = max(feed.start + len(feed.tokens) for feed in batch)
        hidden: Tensor = self._model(x, positions=positions, memory=self._memory(rows), caches=caches)
        return hidden

    def _embed(self, feed: Feed, positions: Tensor) -> Float[Tensor, "1 N D"]:
        if isinstance(feed.tokens, Tensor):
            weight = self._model.embedding.weight
            return feed.tokens[None].to(weight.device, weight.dtype)
        return self._model.embed(torch.tensor([list(feed.tokens)], device=self._device), positions)

    def _memory(self, rows: slice) -> Memory | None:
        """Memories of some rows as one padded batch."""
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
    """Pad one block's memories of several rows to the longest; a single memory is returned as it is."""
    given = [part for part in parts if part is not None]
    if len(given) < 2:
        return given[0] if given else None
    longest = max(part.keys.shape[2] for part in given)

    def stacked(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(x, (0, 0, 0, longest - x.shape[2])) for x in tensors])

    masks = [
        part.keys.new_ones(part.keys.shape[::2], dtype=torch.bool) if part.mask is None else part.mask
        for part in given
    ]
    mask = torch.cat([pad(mask, (0, longest - mask.shape[1])) for mask in masks])
    return KeyValues(stacked([part.keys for part in given]), stacked([part.values for part in given]), mask)


class GuidedDecoder:
    """Applies classifier-free guidance to a decoder that was trained with memory dropout.

    Each sequence takes two rows: one attends to its memory, the other does not. The logits are

        l = l_without + s (l_with - l_without)

    With s = 1 they are unchanged. Larger s makes tokens likelier that the memory makes likelier.

    Args:
        decoder: With an even number of rows; the second half are the rows without memory.
        empty_memory: Memory of a sequence whose media and instruction are hidden.
        scale: s.

    Raises:
        UsageError: If the number of rows is odd.

    Reference: arXiv:2207.12598, section 3.2; for image tokens arXiv:2203.13131, section 3.3.
    """

    def __init__(self, decoder: Decoder, empty_memory: Memory | None, scale: float) -> None:
        if decoder.num_rows % 2:
            raise UsageError(f"{decoder.num_rows} rows; expected an even number, half of them for guidance")
        self._decoder, self._empty_memory, self._scale = decoder, empty_memory, scale
        self.vocab_size, self.capacity = decoder.vocab_size, decoder.capacity
        self.num_rows = decoder.num_rows // 2

    def clear(self, row: int, memory: Memory | None = None) -> None:
        """Empty a row; see `Decoder.clear`."""
        self._decoder.clear(row, memory)
        self._decoder.clear(row + self.num_rows, self._empty_memory)

    def copy(self, sources: Sequence[int]) -> None:
        """Copy rows; see `Decoder.copy`."""
        self._decoder.copy([*sources, *(source + self.num_rows for source in sources)])

    def advance(self, feeds: Sequence[Feed]) -> list[Float[Tensor, "P V"]]:
        """Append tokens, return guided logits; see `Decoder.advance`."""
        twins = [replace(feed, row=feed.row + self.num_rows) for feed in feeds]
        logits = self._decoder.advance([*feeds, *twins])
        with_memory, without = logits[: len(feeds)], logits[len(feeds) :]
        return [b + self._scale * (a - b) for a, b in zip(with_memory, without, strict=True)]
