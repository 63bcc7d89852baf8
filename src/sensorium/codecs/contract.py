"""The `Codec` interface, which converts a medium to ids and ids to a medium, and the registry of codecs.

Generative models generate ids; a codec decodes them to text, an image or sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.core.registry import Registry

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
Ids = Sequence[int] | np.ndarray
"""Integers (N,); `check_ids` validates them."""


@runtime_checkable
class Codec(Protocol[M]):
    """Converts media of one modality to ids and back.

    The contract tests check each registered codec: ids are in 0 to vocab_size - 1, equal media give equal
    ids, all ids decode, and invalid ids are refused.

    Attributes:
        modality: "image", "text" or "audio".
        vocab_size: Number of ids.
        rate: Ids of a second of sound, or of an image; None where it depends on the content (text).
    """

    modality: str
    rate: float | None

    @property
    def vocab_size(self) -> int:
        """Number of ids: 0 to vocab_size - 1."""

    def encode(self, media: M, /) -> Ids:
        """Encode a medium."""

    def decode(self, ids: Ids, /) -> M:
        """Decode ids."""


@runtime_checkable
class StreamingCodec(Protocol[M_co]):
    """A codec that decodes a stream of ids."""

    def decode_stream(self, ids: Iterable[int]) -> Iterator[M_co]:
        """Yield pieces of the medium; concatenated, they are what `decode` returns."""


@dataclass(frozen=True)
class Signals:
    """A training batch of an autoencoder.

    Attributes:
        rows: Row numbers.
        inputs: Normalised pixels (B, 3, H, W), or log-mel frames (B, T, M).
        targets: What to reconstruct: the pixels, or the samples (B, S) of the frames.
    """

    rows: Int64[Tensor, " B"]
    inputs: Float[Tensor, "B ..."]
    targets: Float[Tensor, "B ..."]

    def to(self, device: torch.device | str) -> Signals:
        """Return a copy with everything but `rows` on `device`."""
        return Signals(self.rows, self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Reconstructed:
    """Output of an autoencoder.

    Attributes:
        values: Reconstruction, in the shape of the targets.
        ids: Quantised codes.
    """

    values: Float[Tensor, "B ..."]
    ids: Int64[Tensor, "B ..."]


CODECS: Registry[Codec[object]] = Registry("codec")
"""Codecs by name: `CODECS.build("image-fsq", size_px=128)`."""


def check_ids(ids: Ids, vocab_size: int) -> Int64[np.ndarray, " N"]:
    """Convert ids to an array and validate them.

    Raises:
        UsageError: If they are not a 1-D sequence of integers, or one is not in 0 to vocab_size - 1.

    Example:
        >>> check_ids([3, 1], 7)
        array([3, 1])
    """
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise UsageError(
            f"ids of shape {array.shape} and type {array.dtype}; expected a 1-D sequence of integers"
        )
    array = array.astype(np.int64)
    wrong = array[(array < 0) | (array >= vocab_size)]
    if len(wrong):
        raise UsageError(f"id {wrong[0]} is not a code; expected 0 to {vocab_size - 1}")
    return array
