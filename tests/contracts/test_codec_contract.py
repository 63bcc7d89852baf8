"""Every entry of the codec registry keeps the codec contract; a new entry is tested by its name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sensorium.codecs import CODECS, Codec, train_bpe
from sensorium.core.errors import UsageError
from sensorium.media import Audio, Image
from sensorium.models.checkpoint import load, save

OPTIONS: dict[str, dict[str, Any]] = {
    "bpe": {"tokenizer_json": train_bpe(["a green frog", "two red apples"] * 7, 300)},
    "audio-fsq": {"encoder_dim": 6, "decoder_dim": 10, "encoder_depth": 1, "decoder_depths": (1, 1)},
    "image-fsq": {"size_px": 24, "widths": (4, 6), "levels": (5, 3, 2)},
}


def media(modality: str) -> Sequence[Any]:
    """Five media of different sizes, the first as small as can be."""
    rng = np.random.default_rng(7)
    if modality == "text":
        return ["", "frog", "two red apples", "青蛙 émeu", "a\n<start>b"]
    if modality == "image":
        shapes = ((1, 1), (37, 53), (64, 31), (41, 41), (101, 5))
        return [Image(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]
    seconds = (0.0001, 0.43, 0.71, 0.29, 1.01)
    return [Audio(rng.normal(0, 0.1, (int(s * 16_000), 1)).astype(np.float32), 16_000) for s in seconds]


def build(name: str, seed: int = 1) -> Codec[Any]:
    torch.manual_seed(seed)
    codec = CODECS.build(name, **OPTIONS.get(name, {}))
    return codec.eval() if isinstance(codec, nn.Module) else codec


@pytest.fixture(params=list(CODECS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def codec(name: str) -> Codec[Any]:
    return build(name)


def test_declares_what_it_is(codec: Codec[Any]) -> None:
    assert isinstance(codec, Codec)
    assert codec.modality in {"text", "image", "audio"}
    assert codec.vocab_size > 1
    assert codec.rate is None or codec.rate > 0


def test_ids_are_whole_numbers_of_the_vocabulary_and_decode(codec: Codec[Any]) -> None:
    for item in media(codec.modality):
        ids = np.asarray(codec.encode(item))
        assert ids.ndim == 1
        assert ids.dtype == np.int64
        assert len(ids) > 0
        assert 0 <= ids.min() <= ids.max() < codec.vocab_size
        assert type(codec.decode(ids)) is type(item)


def test_equal_media_give_equal_ids_and_equal_ids_equal_media(codec: Codec[Any]) -> None:
    for item in media(codec.modality):
        ids = np.asarray(codec.encode(item))
        assert np.array_equal(ids, np.asarray(codec.encode(item)))
        one, other = codec.decode(ids), codec.decode(ids.tolist())
        assert np.array_equal(content(one), content(other))


def test_the_rate_says_how_many_ids(codec: Codec[Any]) -> None:
    if codec.rate is None:
        pytest.skip("content decides")
    for item in media(codec.modality):
        seconds = item.duration_s if isinstance(item, Audio) else 1
        assert len(codec.encode(item)) == max(1, int(np.ceil(round(seconds * codec.rate, 6))))


def test_any_ids_decode(codec: Codec[Any]) -> None:
    rng = np.random.default_rng(3)
    num = int(codec.rate) if codec.rate is not None else 17
    medium = codec.decode(rng.integers(0, codec.vocab_size, num))
    if codec.modality != "text":
        assert np.isfinite(content(medium)).all()


@pytest.mark.parametrize("wrong", [-1, None])
def test_what_is_no_id_is_refused_in_one_line(codec: Codec[Any], wrong: int | None) -> None:
    ids = np.zeros(int(codec.rate or 5), np.int64)
    ids[2] = codec.vocab_size if wrong is None else wrong
    with pytest.raises(
        UsageError, match=rf"id {ids[2]} is not a code; expected 0 to {codec.vocab_size - 1}$"
    ):
        codec.decode(ids)
    with pytest.raises(UsageError, match="expected a 1-D sequence of integers"):
        codec.decode(np.zeros((2, 3)))
    with pytest.raises(UsageError, match="expected a 1-D sequence of integers"):
        codec.decode(np.full(int(codec.rate or 5), 0.5))


def test_a_saved_codec_is_the_same(name: str, codec: Codec[Any], tmp_path: Path) -> None:
    if not isinstance(codec, nn.Module):
        pytest.skip("it travels as text")
    loaded = load(save(codec, tmp_path), type(codec))
    for item in media(codec.modality):
        ids = codec.encode(item)
        assert np.array_equal(ids, loaded.encode(item))
        assert np.array_equal(content(codec.decode(ids)), content(loaded.decode(ids)))


def test_half_of_the_bits_of_its_weights_are_enough_to_keep_it(codec: Codec[Any], tmp_path: Path) -> None:
    if not isinstance(codec, nn.Module):
        pytest.skip("it has no weights")
    ids = codec.encode(media(codec.modality)[1])
    expected = content(codec.decode(ids)).astype(np.float64)
    loaded = load(save(codec.half(), tmp_path), type(codec))
    assert next(loaded.parameters()).dtype == torch.float32
    apart = np.abs(content(loaded.decode(ids)) - expected).max()
    assert apart <= 0.02 * np.abs(expected).max()


def content(medium: Any) -> np.ndarray:
    if isinstance(medium, Image):
        return medium.pixels
    return medium.samples if isinstance(medium, Audio) else np.array(list(medium))
