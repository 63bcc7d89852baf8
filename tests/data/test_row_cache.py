"""What is kept in memory changes no batch, and stays below its bound."""

import numpy as np
import pytest
import torch
from test_loader import INPUTS, assert_equal, loader

from sensorium.data.loading.decode import Decoder
from sensorium.data.loading.row_cache import RowCache, num_bytes
from sensorium.media import Audio, Image, Text, Video

ROWS = np.arange(53)


def decoder(table, cache_bytes: int) -> Decoder:
    return Decoder([table], INPUTS, seed=3, augment=True, cache_bytes=cache_bytes)


@pytest.mark.parametrize("cache_bytes", [9_973, 10**8])
def test_kept_rows_change_nothing(rich_table, cache_bytes):
    anew, kept = decoder(rich_table, 0), decoder(rich_table, cache_bytes)
    for epoch in (0, 1):
        one, other = anew(ROWS[::-1], epoch), kept(ROWS[::-1], epoch)
        assert one.rows.tolist() == other.rows.tolist()
        assert one.inputs.keys() == other.inputs.keys()
        for name in one.inputs:
            assert torch.equal(one.present[name], other.present[name])
            assert torch.equal(one.inputs[name].values, other.inputs[name].values)
    assert 0 < len(kept.cache) <= 53
    assert (len(kept.cache) == 53) == (cache_bytes == 10**8)


def test_a_loader_hands_its_bound_on(rich_table):
    anew, kept = loader(rich_table, rows=range(7)), loader(rich_table, rows=range(7), cache_mb=1)
    for epoch in (0, 1):
        for one, other in zip(anew.epoch(epoch), kept.epoch(epoch), strict=True):
            assert_equal(one, other)
    assert (len(anew._decoder.cache), len(kept._decoder.cache)) == (0, 7)


def test_the_table_is_read_once(rich_table, monkeypatch):
    decode = decoder(rich_table, 10**8)
    decode(ROWS, 0)
    assert len(decode.cache) == 53
    monkeypatch.setattr(type(rich_table), "rows", None)
    decode(ROWS, 1)
    with pytest.raises(TypeError):
        decoder(rich_table, 0)(ROWS, 1)


def test_pictures_are_kept_opened_and_clips_once_they_were_drawn(rich_table):
    decode = decoder(rich_table, 10**8)
    decode(ROWS, 0)
    row = decode.cache.get(2)
    assert row is not None
    assert [type(one) for one in row["image"]] == [Image]
    assert sorted(type(one).__name__ for one in row["speech"]) == ["Audio", "bytes"]


def test_the_bound_holds_also_where_a_row_grows():
    cache = RowCache(limit_bytes=100)
    cache.put(0, {"text": [b"x" * 40]})
    cache.put(1, {"text": [b"x" * 50]})
    cache.put(2, {"text": [b"x" * 11]})
    assert (len(cache), cache.get(2)) == (2, None)
    cache.open(0, "text", 0, Text("x" * 51))
    assert cache.get(0) == {"text": [b"x" * 40]}
    cache.open(0, "text", 0, Text("x" * 50))
    assert cache.get(0) == {"text": [Text("x" * 50)]}
    cache.put(3, {"text": [b"x"]})
    assert cache.get(3) is None
    cache.open(3, "text", 0, Text("x"))
    assert cache.get(3) is None


def test_every_kind_is_counted_by_its_array():
    pixels, samples = np.zeros((3, 5, 3), np.uint8), np.zeros((7, 2), np.float32)
    sound = Audio(samples, 16_000)
    silent = Video(np.zeros((2, 3, 5, 3), np.uint8), np.zeros(2))
    loud = Video(silent.frames, silent.times_s, sound)
    found = [num_bytes(one) for one in (b"frog", Text("frog"), Image(pixels), sound, silent, loud)]
    assert found == [4, 4, 45, 56, 90, 146]
