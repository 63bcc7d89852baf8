"""What a codec is, and the names under which codecs are found.

In: one medium. Out: ids, and from ids a medium again. What a model writes are ids; a codec makes pictures,
sounds and texts of them. It knows nothing of the model.
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
"""(N,) whole numbers; `check_ids` looks at what users give."""


@runtime_checkable
class Codec(Protocol[M]):
    """Media of one modality to ids and back.

    What every entry of the registry must hold, and is tested for: ids are among 0 to vocab_size - 1, equal
    media give equal ids, all ids decode, wrong ids are refused in one line.

    Attributes:
        modality: "image", "text" or "audio".
        vocab_size: How many ids there are.
        rate: Ids of a second of sound, or of a picture; None where content decides (text).
    """

    modality: str
    rate: float | None

    @property
    def vocab_size(self) -> int:
        """How many ids there are: 0 to vocab_size - 1."""

    def encode(self, media: M, /) -> Ids:
        """Return the ids of one medium."""

    def decode(self, ids: Ids, /) -> M:
        """Return the medium of some ids."""


@runtime_checkable
class StreamingCodec(Protocol[M_co]):
    """A codec that decodes while ids still come."""

    def decode_stream(self, ids: Iterable[int]) -> Iterator[M_co]:
        """Make pieces of the medium, each as soon as its ids are known; joined, they are the whole."""


@dataclass(frozen=True)
class Signals:
    """What an autoencoder is trained on.

    Attributes:
        rows: Row numbers.
        inputs: What it encodes: normalised pixels (B, 3, H, W), or log-mel frames (B, T, M).
        targets: What it shall give back: the pixels, or the samples (B, S) from which the frames were made.
    """

    rows: Int64[Tensor, " B"]
    inputs: Float[Tensor, "B ..."]
    targets: Float[Tensor, "B ..."]

    def to(self, device: torch.device | str) -> Signals:
        """Return a copy with everything but `rows` on `device`."""
        return Signals(self.rows, self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Reconstructed:
    """What an autoencoder makes of them.

    Attributes:
        values: Of the targets' shape.
        ids: Through which they went.
    """

    values: Float[Tensor, "B ..."]
    ids: Int64[Tensor, "B ..."]


CODECS: Registry[Codec[object]] = Registry("codec")
"""Every codec by name: `CODECS.build("image-fsq", size_px=128)`."""


def check_ids(ids: Ids, vocab_size: int) -> Int64[np.ndarray, " N"]:
    """Ids as an array.

    Raises:
        UsageError: If they are not whole numbers in one row, or one is not among 0 to vocab_size - 1.

    Example:
        >>> check_ids([3, 1], 7)
        array([3, 1])
    """
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise UsageError(
            f"ids of shape {array.shape} and type {array.dtype}; expected one row of whole numbers"
        )
    array = array.astype(np.int64)
    wrong = array[(array < 0) | (array >= vocab_size)]
    if len(wrong):
        raise UsageError(f"id {wrong[0]} is not a code; expected 0 to {vocab_size - 1}")
    return array
