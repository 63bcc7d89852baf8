"""Cached features: one of each row's vectors an epoch, by the same order and state as decoded media."""

import numpy as np
import pytest
import torch

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import MediaBatch
from sensorium.data.loading.epochs import Epochs
from sensorium.data.loading.feature_loader import feature_batches
from sensorium.data.loading.order import LoaderState
from sensorium.data.table.vectors import Ragged


def ragged(counts: list[int], dim: int) -> Ragged:
    """Vector j of row i is (i, j, j, ...)."""
    pairs = [(row, item) for row, count in enumerate(counts) for item in range(count)]
    values = np.array([[row] + [item] * (dim - 1) for row, item in pairs], dtype=np.float32)
    return Ragged(values, np.concatenate([[0], np.cumsum(counts)]))


IMAGES, TEXTS = ragged([1, 0, 3, 2] * 29, 5), ragged([2, 1, 0, 4] * 29, 3)


def loader(**options) -> Epochs[MediaBatch]:
    rows = np.arange(2, 116)
    return feature_batches({"text": TEXTS, "image": IMAGES}, rows, **{"batch_size": 13, "seed": 5, **options})


def test_each_row_brings_one_of_its_own_vectors():
    seen = []
    for batch in loader(drop_last=False).epoch(0):
        seen += batch.rows.tolist()
        for name, source in (("image", IMAGES), ("text", TEXTS)):
            rows = batch.rows[batch.present[name]]
            assert rows.tolist() == [row for row in batch.rows.tolist() if source.counts[row]]
            assert torch.equal(batch.features[name][:, 0], rows.float())
            assert (batch.features[name][:, 1].numpy() < source.counts[rows.numpy()]).all()
    assert sorted(seen) == list(range(2, 116))


def test_all_vectors_are_seen_over_epochs_and_only_the_first_without_augmentation():
    def items(epochs: int, **options) -> set[tuple[int, int]]:
        batches = [
            batch for epoch in range(epochs) for batch in loader(drop_last=False, **options).epoch(epoch)
        ]
        return {(int(row), int(item)) for batch in batches for row, item in batch.features["text"][:, :2]}

    everything = {(row, item) for row in range(2, 116) for item in range(TEXTS.counts[row])}
    assert items(40) == everything
    assert items(3, augment=False) == {(row, 0) for row in range(2, 116) if TEXTS.counts[row]}


def test_resumed_equals_uninterrupted():
    whole = loader()
    expected = [*whole, *whole]
    part = loader()
    stream = iter(part)
    for _ in range(3):
        next(stream)
    other = loader()
    other.resume(part.state())
    assert other.state() == LoaderState(0, 3, 5)
    for one, two in zip(expected[3:], [*other, *other], strict=True):
        assert torch.equal(one.rows, two.rows)
        assert all(torch.equal(one.features[name], two.features[name]) for name in one.features)
    assert loader().epoch(1, 2).__next__().rows.tolist() == expected[len(whole) + 2].rows.tolist()


def test_groups_mark_positives():
    groups = [str(row // 3) for row in range(116)]
    batch = next(loader(groups=groups).epoch(0))
    same = batch.groups[:, None] == batch.groups
    assert torch.equal(same, batch.rows[:, None] // 3 == batch.rows // 3)
    assert len(set(next(loader().epoch(0)).groups.tolist())) == 13


def test_wrong_features_are_refused():
    with pytest.raises(UsageError, match="each with as many samples"):
        feature_batches({"text": TEXTS, "image": ragged([1], 2)}, [0], batch_size=1, seed=0)
    with pytest.raises(UsageError, match="known fields"):
        feature_batches({"picture": TEXTS}, [0], batch_size=1, seed=0)
    with pytest.raises(NotFoundError, match="no row 116"):
        feature_batches({"text": TEXTS}, [3, 116], batch_size=1, seed=0)
    with pytest.raises(UsageError, match="3 groups for 116"):
        loader(groups=["a", "b", "c"])
