"""Data types that cross the borders between layers: batches, tokens and embeddings.

Shape legend, used everywhere: B batch, N tokens, D width, H heads, K head dim, V vocabulary, T time, C
channels, E embedding. A *field* is a column of the media table; each field holds one modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from torch import Tensor

MODALITY_OF: Mapping[str, str] = MappingProxyType(
    {"image": "image", "text": "text", "audio": "audio", "speech": "audio", "video": "video"}
)
"""Which modality each field of a media table holds: `audio` is sound, `speech` is a spoken caption."""

FIELDS: tuple[str, ...] = tuple(MODALITY_OF)


@dataclass(frozen=True)
class Padded:
    """Inputs of one field, padded to the longest.

    Attributes:
        values: image (B, 3, H, W) · text ids (B, N) int64 · audio log-mel (B, T, M) · video (B, T, 3, H, W).
        mask: True = real; one entry per token, frame or time step (image: N = 1).
    """

    values: Shaped[Tensor, "B ..."]
    mask: Bool[Tensor, "B N"]

    def to(self, device: torch.device | str) -> Padded:
        """Return a copy on `device`."""
        return Padded(self.values.to(device), self.mask.to(device))


@dataclass(frozen=True)
class Tokens:
    """Output of an encoder: a sequence of vectors per sample.

    Attributes:
        values: (B, N, D).
        mask: (B, N), True = real.
    """

    values: Float[Tensor, "B N D"]
    mask: Bool[Tensor, "B N"]

    def to(self, device: torch.device | str) -> Tokens:
        """Return a copy on `device`."""
        return Tokens(self.values.to(device), self.mask.to(device))


@dataclass(frozen=True)
class MediaBatch:
    """Rows of a media table as model inputs; a row may lack any field.

    Attributes:
        rows: Row numbers in the table, (B,).
        present: For each field, batch indices of the rows that have it, (b,).
        inputs: For each field that must be encoded, the inputs of those b rows.
        features: For each field with cached features of a frozen encoder, those of the b rows, (b, D).
        groups: Rows with the same number have the same caption and are positives of each other, (B,).
        tokens: For each field with cached tokens of a frozen encoder, the unpooled tokens of the b rows.
        shared: For rows that share an input (questions about one image): the index of each row's input or
            tokens. A field that is missing here has one input per row.
    """

    rows: Int64[Tensor, " B"]
    present: Mapping[str, Int64[Tensor, " b"]]
    inputs: Mapping[str, Padded] = field(default_factory=dict)
    features: Mapping[str, Float[Tensor, "b D"]] = field(default_factory=dict)
    groups: Int64[Tensor, " B"] | None = None
    tokens: Mapping[str, Tokens] = field(default_factory=dict)
    shared: Mapping[str, Int64[Tensor, " b"]] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> MediaBatch:
        """Return a copy with inputs, features and positions on `device`."""
        return MediaBatch(
            rows=self.rows,
            present={name: value.to(device) for name, value in self.present.items()},
            inputs={name: value.to(device) for name, value in self.inputs.items()},
            features={name: value.to(device) for name, value in self.features.items()},
            groups=None if self.groups is None else self.groups.to(device),
            tokens={name: value.to(device) for name, value in self.tokens.items()},
            shared={name: value.to(device) for name, value in self.shared.items()},
        )


@dataclass(frozen=True)
class Embeddings:
    """Unit vectors of n items in a joint embedding space.

    Attributes:
        vectors: (n, E) float32, each row of length 1.
    """

    vectors: Float32[np.ndarray, "n E"]

    def __len__(self) -> int:
        return len(self.vectors)

    def similarity(self, other: Embeddings) -> Float32[np.ndarray, "n m"]:
        """Cosine similarity of each item with each item of `other`."""
        cosines: np.ndarray = self.vectors @ other.vectors.T
        return cosines


@runtime_checkable
class Embedder(Protocol):
    """A model that embeds media into one joint space; the interface that `Table.search` needs."""

    @property
    def fingerprint(self) -> str:
        """Short hash of the weights; only vectors with the same fingerprint are comparable."""

    def embed(self, items: Sequence[Any]) -> Embeddings:
        """Embed texts (`str`), files (`Path`) and opened media."""


def pad(items: Sequence[np.ndarray]) -> Padded:
    """Stack arrays and pad the first axis with zeros to the longest; images (C, H, W) are stacked unpadded.

    Args:
        items: Text ids (N,) int64, audio (T, M), video (T, 3, H, W) or images (3, H, W), all of one kind.
    """
    is_image = items[0].ndim == 3
    lengths = [1 if is_image else len(item) for item in items]
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    if is_image:
        return Padded(torch.from_numpy(np.stack(items)), mask)
    values = np.zeros((len(items), max(lengths), *items[0].shape[1:]), dtype=items[0].dtype)
    for row, item in zip(values, items, strict=True):
        row[: len(item)] = item
    return Padded(torch.from_numpy(values), mask)
