"""Batches of token sequences with training targets, padded or packed.

Input: for each sequence the ids of a prompt and of an answer, and the batch row whose memory it attends to.
Output: a `TokenBatch`. The target at position i is id i + 1. Only ids of the answer are targets; prompt and
padding have none. The module does not know what ids stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sensorium.core.types import MediaBatch, Tokens
from sensorium.losses import IGNORED


@dataclass(frozen=True)
class TokenSequence:
    """A prompt and its answer.

    Attributes:
        prompt: Given ids, at least one: the decoder's start id.
        answer: Target ids with the end id; empty: there are no targets.
        row: Batch row whose memory the sequence attends to.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    row: int

    @property
    def num_inputs(self) -> int:
        """Number of ids that the decoder reads: all but the last."""
        return max(len(self.prompt) + len(self.answer) - 1, 1)


@dataclass(frozen=True)
class TokenBatch:
    """R rows of N ids for one decoder; each row holds one sequence, or K packed ones.

    Attributes:
        ids: Input ids, (R, N).
        mask: True = real, (R, N).
        targets: Next id, or `IGNORED`, (R, N).
        positions: Position within each sequence, (R, N).
        memory_rows: Batch row whose memory each of the K sequences attends to, (R, K); -1 = no sequence.
        segments: Number of the packed sequence of each id, (R, N); None if K is 1.
    """

    ids: Int64[Tensor, "R N"]
    mask: Bool[Tensor, "R N"]
    targets: Int64[Tensor, "R N"]
    positions: Int64[Tensor, "R N"]
    memory_rows: Int64[Tensor, "R K"]
    segments: Int64[Tensor, "R N"] | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        """Return a copy on `device`."""
        tensors = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(self, **{name: one.to(device) for name, one in tensors.items() if one is not None})

    def gather_memory(self, memory: Tokens) -> tuple[Tokens, Int64[Tensor, "R S"] | None]:
        """Return the memory of each row and, if sequences are packed, the sequence of each memory token.

        The memories of packed sequences are concatenated.
        """
        of = self.memory_rows
        values, mask = memory.values[of.clamp(min=0)], memory.mask[of.clamp(min=0)] & (of >= 0)[..., None]
        joined = Tokens(values.flatten(1, 2), mask.flatten(1, 2))
        if self.segments is None:
            return joined, None
        numbers = torch.arange(of.shape[1], device=of.device).repeat_interleave(memory.mask.shape[1])
        return joined, numbers.expand(len(of), -1)


@dataclass(frozen=True)
class DecoderBatch:
    """Training batch of a multimodal language model: media, and token sequences of one decoder.

    Attributes:
        media: Encoder inputs by modality; the memory has the same rows.
        decoder: Name of the decoder.
        sequences: Its sequences.
        task: Name of the task, for the log.
    """

    media: MediaBatch
    decoder: str
    sequences: TokenBatch
    task: str = ""

    @property
    def rows(self) -> Int64[Tensor, " B"]:
        """Row numbers."""
        return self.media.rows

    def to(self, device: torch.device | str) -> DecoderBatch:
        """Return a copy on `device`."""
        return DecoderBatch(self.media.to(device), self.decoder, self.sequences.to(device), self.task)


def padded(sequences: Sequence[TokenSequence]) -> TokenBatch:
    """Put one sequence into each row.

    Example:
        >>> padded([TokenSequence([1], [5, 2], row=0), TokenSequence([1, 7], [2], row=0)]).targets.tolist()
        [[5, 2], [-100, 2]]
    """
    return _fill_rows([[one] for one in sequences])


def packed(sequences: Sequence[TokenSequence], num_inputs: int) -> TokenBatch:
    """Pack several sequences into each row of `num_inputs` ids; a longer sequence gets a longer row.

    First-fit decreasing: the longest sequence first, each into the first row with enough room. Attention
    masks are exact, so that loss and gradients equal those of padded rows.
    """
    rows: list[list[TokenSequence]] = []
    room: list[int] = []
    for one in sorted(sequences, key=lambda sequence: -sequence.num_inputs):
        place = next((n for n, left in enumerate(room) if left >= one.num_inputs), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(max(num_inputs, one.num_inputs))
        rows[place].append(one)
        room[place] -= one.num_inputs
    return _fill_rows(rows)


def _fill_rows(rows: Sequence[Sequence[TokenSequence]]) -> TokenBatch:
    length = max(sum(one.num_inputs for one in row) for row in rows)
    most = max(len(row) for row in rows)
    shape = (len(rows), length)
    ids, positions, segments = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    targets = torch.full(shape, IGNORED)
    memory_rows = torch.full((len(rows), most), -1)
    for number, row in enumerate(rows):
        start = 0
        for place, one in enumerate(row):
            whole = torch.tensor([*one.prompt, *one.answer])
            span = slice(start, start + one.num_inputs)
            ids[number, span] = whole[: one.num_inputs]
            positions[number, span] = torch.arange(one.num_inputs)
            segments[number, span] = place
            if len(one.answer):
                targets[number, span][len(one.prompt) - 1 :] = whole[len(one.prompt) :]
            memory_rows[number, place] = one.row
            start += one.num_inputs
        segments[number, start:] = most
    return TokenBatch(ids, segments < most, targets, positions, memory_rows, segments if most > 1 else None)
