"""Batches of cached features: training of heads on locked encoders, with no decoding at all.

In: for each field, the vectors of n samples (any number for each). Out: `MediaBatch`es that hold one
vector for each row and field, in the order and by the choice that `data.loader` keeps too. It knows no
table: features of several tables, or of none, may be joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from sensorium.core.errors import UsageError
from sensorium.core.types import FIELDS, MediaBatch
from sensorium.data.loading.order import Cursor, LoaderState, Order, pick
from sensorium.data.table.vectors import Ragged


class FeatureLoader:
    """Batches of cached features.

    Args:
        features: For each field, vectors of n samples.
        rows: Which samples.
        groups: Group of each of the n samples; equal ones are positives of each other. None: all differ.
        batch_size: Samples in a batch.
        seed: Of order and choice.
        shuffle: Permute the rows anew in each epoch.
        drop_last: Leave out the last batch where it is not full.
        augment: In each epoch, any one of a sample's vectors; otherwise the first.

    Example:
        >>> text = Ragged(np.ones((3, 2), np.float32), np.array([0, 1, 3]))
        >>> loader = FeatureLoader({"text": text}, [0, 1], batch_size=2, seed=0)
        >>> [tuple(batch.features["text"].shape) for batch in loader.epoch(0)]
        [(2, 2)]
    """

    def __init__(
        self,
        features: Mapping[str, Ragged],
        rows: Sequence[int] | np.ndarray,
        *,
        batch_size: int,
        seed: int,
        groups: Sequence[str] | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
        augment: bool = True,
    ) -> None:
        lengths = {name: len(ragged) for name, ragged in features.items()}
        if not lengths or set(lengths) - set(FIELDS) or len(set(lengths.values())) > 1:
            raise UsageError(f"features of {lengths}; give known fields, each with as many samples")
        count = next(iter(lengths.values()))
        names = np.arange(count) if groups is None else np.asarray(groups)
        if len(names) != count:
            raise UsageError(f"{len(names)} groups for {count} samples; give one for each")
        self._features = {name: features[name] for name in FIELDS if name in features}
        self._order = Order(np.asarray(rows, np.int64), batch_size, seed, shuffle, drop_last)
        self._order.check(count)
        self._codes = np.unique(names, return_inverse=True)[1]
        self._augment = augment
        self._cursor = Cursor(self._order)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order)

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[MediaBatch]:
        """Yield the batches of an epoch from the one numbered `offset` on."""
        for rows in self._cursor.walk(epoch, offset):
            yield self._batch(epoch, rows)

    def __iter__(self) -> Iterator[MediaBatch]:
        """Yield what is left of the current epoch; the next call begins the next one."""
        state = self.state()
        return self.epoch(state.epoch, state.offset)

    def state(self) -> LoaderState:
        """The place after the last batch that was given."""
        return self._cursor.state()

    def resume(self, state: LoaderState) -> None:
        """Go on from a place.

        Raises:
            UsageError: If it is of another seed: the order would not be the same.
        """
        self._cursor.resume(state)

    def _batch(self, epoch: int, rows: np.ndarray) -> MediaBatch:
        present: dict[str, torch.Tensor] = {}
        features: dict[str, torch.Tensor] = {}
        for name, ragged in self._features.items():
            counts = ragged.offsets[rows + 1] - ragged.offsets[rows]
            places = np.flatnonzero(counts)
            if not len(places):
                continue
            first = ragged.offsets[rows[places]]
            chosen = pick(self._order.seed, epoch, rows[places], name, counts[places]) if self._augment else 0
            present[name] = torch.from_numpy(places)
            features[name] = torch.from_numpy(ragged.values[first + chosen])
        groups = torch.from_numpy(self._codes[rows])
        return MediaBatch(torch.from_numpy(rows), present, features=features, groups=groups)
