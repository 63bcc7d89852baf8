"""A decoder that follows its memory more than it was trained to: classifier-free guidance.

In: a decoder that was trained with its memory hidden now and then. Out: a decoder of half as many rows, whose
scores

    l = l_without + s (l_with - l_without)

go on from those of a row that attends to nothing and has written the same (Ho & Salimans, arXiv:2207.12598,
section 3.2; for ids of pictures as in arXiv:2203.13131, section 3.3). With s = 1 nothing changes; above, what
the memory makes likelier becomes likelier still. Does not know what ids stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.generation.decoder import Decoder, Feed, Memory


class GuidedDecoder:
    """A decoder with guidance.

    Args:
        decoder: With an even number of rows; the second half attends to nothing.
        nothing: What a row attends to whose memory is hidden.
        scale: s.

    Raises:
        UsageError: If the rows are odd.
    """

    def __init__(self, decoder: Decoder, nothing: Memory | None, scale: float) -> None:
        if decoder.num_rows % 2:
            raise UsageError(f"{decoder.num_rows} rows; expected an even number, half of them for guidance")
        self._decoder, self._nothing, self._scale = decoder, nothing, scale

    @property
    def vocab_size(self) -> int:
        """Number V of ids."""
        return self._decoder.vocab_size

    @property
    def num_rows(self) -> int:
        """Most sequences at a time."""
        return self._decoder.num_rows // 2

    @property
    def capacity(self) -> int:
        """Most tokens of a sequence."""
        return self._decoder.capacity

    def clear(self, row: int, memory: Memory | None = None) -> None:
        """Make a row empty, for a sequence that attends to `memory`."""
        self._decoder.clear(row, memory)
        self._decoder.clear(row + self.num_rows, self._nothing)

    def copy(self, sources: Sequence[int]) -> None:
        """Put what is in row sources[i] into row i, for all i at once; memories stay."""
        self._decoder.copy([*sources, *(source + self.num_rows for source in sources)])

    def advance(self, feeds: Sequence[Feed]) -> list[Float[Tensor, "P V"]]:
        """Take in new tokens, at most one feed a row; return each feed's scores (num_scored, V)."""
        twins = [replace(feed, row=feed.row + self.num_rows) for feed in feeds]
        scores = self._decoder.advance([*feeds, *twins])
        with_memory, without = scores[: len(feeds)], scores[len(feeds) :]
        return [b + self._scale * (a - b) for a, b in zip(with_memory, without, strict=True)]
