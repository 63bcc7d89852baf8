"""Batches of cached features, to train heads on frozen encoders without decoding any media.

Input: for each field, the vectors of n samples, any number per sample. Output: `MediaBatch`es with one vector
per row and field. Order and choice are those of `data.loading.loader`. It does not read tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from sensorium.core.errors import UsageError
from sensorium.core.types import FIELDS, MediaBatch
from sensorium.data.loading.epochs import Epochs
from sensorium.data.loading.order import Order, pick
from sensorium.data.table.vectors import Ragged


def feature_batches(
    features: Mapping[str, Ragged],
    rows: Sequence[int] | np.ndarray,
    *,
    batch_size: int,
    seed: int,
    groups: Sequence[str] | None = None,
    shuffle: bool = True,
    drop_last: bool = True,
    augment: bool = True,
) -> Epochs[MediaBatch]:
    """Batches of cached features.

    Args:
        features: For each field, vectors of n samples.
        rows: Indices of the samples to use.
        groups: Group of each of the n samples; samples of one group are positives. None: all differ.
        batch_size: Samples in a batch.
        seed: Seed of the order and of the choice.
        shuffle: Permute the rows in each epoch.
        drop_last: Drop the last batch if it is not full.
        augment: Use a random vector of each sample in each epoch; otherwise the first.

    Example:
        >>> text = Ragged(np.ones((3, 2), np.float32), np.array([0, 1, 3]))
        >>> batches = feature_batches({"text": text}, [0, 1], batch_size=2, seed=0)
        >>> [tuple(batch.features["text"].shape) for batch in batches.epoch(0)]
        [(2, 2)]
    """
    lengths = {name: len(ragged) for name, ragged in features.items()}
    if not lengths or set(lengths) - set(FIELDS) or len(set(lengths.values())) > 1:
        raise UsageError(f"features of {lengths}; give known fields, each with as many samples")
    count = next(iter(lengths.values()))
    names = np.arange(count) if groups is None else np.asarray(groups)
    if len(names) != count:
        raise UsageError(f"{len(names)} groups for {count} samples; give one for each")
    fields = {name: features[name] for name in FIELDS if name in features}
    order = Order(np.asarray(rows, np.int64), batch_size, seed, shuffle, drop_last)
    order.check(count)
    codes = np.unique(names, return_inverse=True)[1]

    def batch(epoch: int, rows: np.ndarray) -> MediaBatch:
        present: dict[str, torch.Tensor] = {}
        vectors: dict[str, torch.Tensor] = {}
        for name, ragged in fields.items():
            counts = ragged.offsets[rows + 1] - ragged.offsets[rows]
            positions = np.flatnonzero(counts)
            if not len(positions):
                continue
            chosen = ragged.offsets[rows[positions]]
            if augment:
                chosen = chosen + pick(seed, epoch, rows[positions], name, counts[positions])
            present[name] = torch.from_numpy(positions)
            vectors[name] = torch.from_numpy(ragged.values[chosen])
        groups = torch.from_numpy(codes[rows])
        return MediaBatch(torch.from_numpy(rows), present, features=vectors, groups=groups)

    def batches(epoch: int, first: int) -> Iterator[MediaBatch]:
        return (batch(epoch, rows) for rows in order.batches(epoch, first))

    return Epochs(len(order), seed, batches)
