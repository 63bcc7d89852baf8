"""The values that cross the borders between layers.

Legend, the same everywhere: B batch, N tokens, D width, H heads, K head dim, V vocabulary, T time,
C channels, E embedding. A *field* is a column of the media table; each holds one modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
        mask: True = real; one entry for each token, frame or time step (image: N = 1).
    """

    values: Shaped[Tensor, "B ..."]
    mask: Bool[Tensor, "B N"]

    def to(self, device: torch.device | str) -> Padded:
        """Return a copy on `device`."""
        return Padded(self.values.to(device), self.mask.to(device))


@dataclass(frozen=True)
class Tokens:
    """What an encoder gives: a sequence of vectors for each sample.

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
    """Some rows of a media table, ready for a model; a row may lack any field.

    Attributes:
        rows: Row numbers in the table, (B,).
        present: For each field, the positions within the batch of the rows that have it, (b,).
        inputs: For each field that is encoded now, those b rows' inputs.
        features: For each field whose frozen encoder ran once already, those b rows' cached features, (b, D).
        groups: Equal numbers mark rows with the same caption (positives of each other), (B,).
        tokens: For each field whose frozen encoder ran once already, those b rows' tokens, not pooled.
        shared: Where several rows have one input (questions about one image): for each field, which of its
            inputs or tokens each of the b rows has; a field that is missing here has one for each row.
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
    """Unit vectors of n items in one joint space.

    Attributes:
        vectors: (n, E) float32, each row of length 1.
    """

    vectors: Float32[np.ndarray, "n E"]

    def __len__(self) -> int:
        return len(self.vectors)

    def similarity(self, other: Embeddings) -> Float32[np.ndarray, "n m"]:
        """Cosine of each item with each item of `other`."""
        cosines: np.ndarray = self.vectors @ other.vectors.T
        return cosines


@runtime_checkable
class Embedder(Protocol):
    """Anything that puts media into one joint space; what `Table.search` asks of a model."""

    @property
    def fingerprint(self) -> str:
        """Short hash of the weights: vectors of one fingerprint may be compared with each other."""

    def embed(self, items: Sequence[Any]) -> Embeddings:
        """Embed texts (`str`), files (`Path`) and opened media."""


def pad(items: Sequence[np.ndarray]) -> Padded:
    """Stack arrays, padding the first axis with zeros to the longest; images (C, H, W) stack as they are.

    Args:
        items: Text ids (N,) int64, audio (T, M), video (T, 3, H, W) or images (3, H, W), all alike.
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


PathLike = str | Path
