"""A mixed picture is the weighted mean of two of one group in one view, drawn by its place in training."""

import numpy as np
import pytest
import torch
from test_loader import INPUTS, loader

from sensorium import media
from sensorium.core.errors import UsageError
from sensorium.data.loading.decode import Decoder
from sensorium.data.loading.mixup import Mixup
from sensorium.data.loading.order import random_stream

CODES = np.array([5, 3, 5, 3, 5, 8, 5])
ROWS = np.array([0, 1, 2, 5, 6])
"""Of group 5 three rows may be taken, of groups 3 and 8 one."""


def test_partners_are_others_of_the_group_that_may_be_taken():
    mixup = Mixup(1.0, ROWS, CODES)
    drawn = [mixup.partner(7, epoch, 2) for epoch in range(101)]
    assert {one.row for one in drawn if one is not None} == {0, 6}
    assert all(one is not None and 0 <= one.weight < 1 for one in drawn)
    assert [mixup.partner(7, 0, row) for row in (1, 5)] == [None, None]
    assert mixup.partner(7, 3, 2) == Mixup(1.0, ROWS[::-1], CODES).partner(7, 3, 2)


def test_the_chance_is_kept():
    mixup = Mixup(0.3, ROWS, CODES)
    mixed = np.mean([mixup.partner(1, epoch, 0) is not None for epoch in range(1009)])
    assert abs(mixed - 0.3) < 0.05


def test_a_mixed_picture_is_the_weighted_mean_of_two_in_one_view(rich_table):
    codes = np.arange(53) % 2
    plain = Decoder([rich_table], INPUTS, seed=3, augment=True)
    mixing = Decoder([rich_table], INPUTS, seed=3, augment=True, mixup=Mixup(1.0, np.arange(53), codes))
    rows = np.array([4, 7, 10])
    before, after = plain(rows, 2), mixing(rows, 2)
    make = INPUTS["image"]
    for place, row in enumerate(rows.tolist()):
        partner = Mixup(1.0, np.arange(53), codes).partner(3, 2, row)
        assert partner is not None
        sample = rich_table.rows([partner.row], ["image"])[0]
        own = before.inputs["image"].values[place]
        if sample.image is None:
            assert torch.equal(after.inputs["image"].values[place], own)
            continue
        other = torch.from_numpy(make(media.open(sample.image), random_stream(3, 2, row, "image")))
        expected = (1 - partner.weight) * own + partner.weight * other
        torch.testing.assert_close(after.inputs["image"].values[place], expected)
        assert not torch.equal(after.inputs["image"].values[place], own)
    assert torch.equal(after.inputs["text"].values, before.inputs["text"].values)


def test_neighbours_in_the_batch_and_memory_change_nothing(rich_table):
    mixup = Mixup(1.0, np.arange(53), np.arange(53) % 2)
    together = Decoder([rich_table], INPUTS, 3, True, mixup=mixup)(np.array([4, 7, 10]), 1)
    remembering = Decoder([rich_table], INPUTS, 3, True, cache_bytes=10**8, mixup=mixup)
    remembering(np.arange(53), 0)
    alone = remembering(np.array([7]), 1)
    assert torch.equal(alone.inputs["image"].values[0], together.inputs["image"].values[1])


def test_it_is_refused_where_it_cannot_be_honoured(rich_table):
    assert len(next(iter(loader(rich_table, mixup=0.5))).rows) == 7
    with pytest.raises(UsageError, match="needs an image input and augment=True"):
        loader(rich_table, mixup=0.5, augment=False)
    with pytest.raises(UsageError, match="not a probability"):
        Mixup(1.5, ROWS, CODES)
