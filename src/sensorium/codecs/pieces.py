"""A sequence of text and media before it becomes vectors, and how it is made shorter.

In: pieces, each a run of ids or one medium that will take some tokens. Out: pieces. A medium is whole or
absent: half of an image's tokens are no image. Does not know what ids mean or media hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Medium:
    """The place of one medium.

    Attributes:
        number: Which of the request's media.
        size: Tokens that it takes in the sequence; 0 where it is attended to from elsewhere.
    """

    number: int
    size: int = 0


Piece: TypeAlias = tuple[int, ...] | Medium
"""Ids of text, or the place of a medium."""


def num_tokens(pieces: Sequence[Piece]) -> int:
    """Length of the sequence.

    Example:
        >>> num_tokens([(5, 6), Medium(0, size=49), (7,)])
        52
    """
    return sum(_size(piece) for piece in pieces)


def ids_of(pieces: Sequence[Piece]) -> list[int]:
    """The ids of the text, media left out."""
    return [one for piece in pieces if not isinstance(piece, Medium) for one in piece]


def truncate(pieces: Sequence[Piece], most: int, *, keep: Literal["start", "end"] = "end") -> list[Piece]:
    """Cut a sequence to at most `most` tokens, without a gap and without splitting a medium.

    Args:
        pieces: The sequence.
        most: Tokens that may stay.
        keep: Which end stays. Text is cut between ids; at a medium that does not fit whole, the cut is
            before it.

    Example:
        >>> truncate([(5, 6), Medium(0, size=49), (7, 8)], 50)
        [(7, 8)]
        >>> truncate([(5, 6), Medium(0, size=49), (7, 8)], 52)
        [(6,), Medium(number=0, size=49), (7, 8)]
    """
    kept: list[Piece] = []
    room = most
    for piece in pieces if keep == "start" else reversed(pieces):
        if _size(piece) > room:
            if not isinstance(piece, Medium) and room > 0:
                kept.append(piece[:room] if keep == "start" else piece[-room:])
            break
        kept.append(piece)
        room -= _size(piece)
    return kept if keep == "start" else kept[::-1]


def _size(piece: Piece) -> int:
    return piece.size if isinstance(piece, Medium) else len(piece)
