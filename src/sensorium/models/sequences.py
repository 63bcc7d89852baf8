"""What a decoder is to write: sequences of ids, with a target wherever something is to be learned.

In: for each sequence a prompt and an answer, both ids, and the row of the batch whose memory it attends to.
Out: a `Writing`, padded or packed. The target of a place is the id that comes next; only ids of the answer
are targets, so that neither prompt nor padding is learned. Does not know what ids stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sensorium.core.types import MediaBatch, Tokens
from sensorium.losses import IGNORED


@dataclass(frozen=True)
class Sequel:
    """A prompt and what is to be written after it.

    Attributes:
        prompt: Ids that are given, at least one: the decoder's start.
        answer: Ids that are to be written, the end among them; empty: nothing is learned.
        row: Row of the batch whose memory is attended to.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    row: int

    @property
    def num_places(self) -> int:
        """Ids that the decoder reads: all but the last."""
        return max(len(self.prompt) + len(self.answer) - 1, 1)


@dataclass(frozen=True)
class Writing:
    """Sequences of one decoder, one or several in a row.

    Attributes:
        ids: What the decoder reads, (R, N).
        mask: True = real, (R, N).
        targets: What it is to write next, or `IGNORED`, (R, N).
        positions: Places within each sequence, (R, N).
        memory_of: Row of the memory that each of a row's sequences attends to, (R, K); -1 = no more.
        segments: Which of the K sequences each id is of, (R, N); None where K is 1.
    """

    ids: Int64[Tensor, "R N"]
    mask: Bool[Tensor, "R N"]
    targets: Int64[Tensor, "R N"]
    positions: Int64[Tensor, "R N"]
    memory_of: Int64[Tensor, "R K"]
    segments: Int64[Tensor, "R N"] | None = None

    def to(self, device: torch.device | str) -> Writing:
        """Return a copy on `device`."""
        return Writing(
            self.ids.to(device),
            self.mask.to(device),
            self.targets.to(device),
            self.positions.to(device),
            self.memory_of.to(device),
            None if self.segments is None else self.segments.to(device),
        )

    def attended(self, memory: Tokens) -> tuple[Tokens, Int64[Tensor, "R S"] | None]:
        """The memory that each row attends to, and which sequence each of its places is for.

        One memory after the other, where sequences are packed; the numbers are None where they are not.
        """
        of = self.memory_of
        values, mask = memory.values[of.clamp(min=0)], memory.mask[of.clamp(min=0)] & (of >= 0)[..., None]
        joined = Tokens(values.flatten(1, 2), mask.flatten(1, 2))
        if self.segments is None:
            return joined, None
        numbers = torch.arange(of.shape[1], device=of.device).repeat_interleave(memory.mask.shape[1])
        return joined, numbers.expand(len(of), -1)


@dataclass(frozen=True)
class Lesson:
    """A batch for a multimodal language model: media, and what one decoder is to write of them.

    Attributes:
        media: Inputs by modality; their rows are those of the memory.
        decoder: Its name.
        writing: Its sequences.
        task: What is practised, for the log.
    """

    media: MediaBatch
    decoder: str
    writing: Writing
    task: str = ""

    @property
    def rows(self) -> Int64[Tensor, " B"]:
        """Row numbers."""
        return self.media.rows

    def to(self, device: torch.device | str) -> Lesson:
        """Return a copy on `device`."""
        return Lesson(self.media.to(device), self.decoder, self.writing.to(device), self.task)


def padded(sequels: Sequence[Sequel]) -> Writing:
    """One sequence in each row.

    Example:
        >>> padded([Sequel([1], [5, 2], row=0), Sequel([1, 7], [2], row=0)]).targets.tolist()
        [[5, 2], [-100, 2]]
    """
    return _laid([[one] for one in sequels])


def packed(sequels: Sequence[Sequel], num_places: int) -> Writing:
    """Several sequences in each row of `num_places` or, where one alone is longer, of its length.

    The longest first, each into the first row that has room for it. The masks are exact: what is learned is
    what would be learned from single rows.
    """
    rows: list[list[Sequel]] = []
    room: list[int] = []
    for one in sorted(sequels, key=lambda sequel: -sequel.num_places):
        place = next((n for n, left in enumerate(room) if left >= one.num_places), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(max(num_places, one.num_places))
        rows[place].append(one)
        room[place] -= one.num_places
    return _laid(rows)


def _laid(rows: Sequence[Sequence[Sequel]]) -> Writing:
    length = max(sum(one.num_places for one in row) for row in rows)
    most = max(len(row) for row in rows)
    shape = (len(rows), length)
    ids, positions, segments = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    targets = torch.full(shape, IGNORED)
    memory_of = torch.full((len(rows), most), -1)
    for number, row in enumerate(rows):
        start = 0
        for place, one in enumerate(row):
            whole = torch.tensor([*one.prompt, *one.answer])
            span = slice(start, start + one.num_places)
            ids[number, span] = whole[: one.num_places]
            positions[number, span] = torch.arange(one.num_places)
            segments[number, span] = place
            if len(one.answer):
                targets[number, span][len(one.prompt) - 1 :] = whole[len(one.prompt) :]
            memory_of[number, place] = one.row
            start += one.num_places
        segments[number, start:] = most
    mask = segments < most
    return Writing(ids, mask, targets, positions, memory_of, segments if most > 1 else None)
