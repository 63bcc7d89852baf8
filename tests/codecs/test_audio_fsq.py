"""The audio codec: pieces are what the whole is, silence and short sounds pass, the rest is refused."""

import numpy as np
import pytest
import torch

from sensorium.codecs import AudioFsq, AudioFsqConfig
from sensorium.codecs.contract import Signals
from sensorium.core.errors import UsageError
from sensorium.media import Audio, Image, Video

SMALL = {"num_mels": 20, "encoder_dim": 6, "decoder_dim": 10, "encoder_depth": 1, "decoder_depths": (1, 2)}


def codec(**options: object) -> AudioFsq:
    torch.manual_seed(5)
    built = AudioFsq(AudioFsqConfig.model_validate({**SMALL, "levels": (5, 3, 2), **options})).eval()
    with torch.no_grad():
        for parameter in built.parameters():  # nothing is equal only because it starts at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    return built


def noise(seconds: float, rate_hz: int = 16_000, channels: int = 1) -> Audio:
    samples = np.random.default_rng(3).normal(0, 0.1, (round(seconds * rate_hz), channels))
    return Audio(samples.astype(np.float32), rate_hz)


@pytest.mark.parametrize(("stride", "rate"), [(2, 50), (4, 25)])
def test_ids_come_at_the_rate_it_states(stride: int, rate: int) -> None:
    model = codec(stride=stride)
    assert model.rate == rate
    for seconds in (0.01, 0.5, 0.51, 1.234):
        ids = model.encode(noise(seconds))
        assert len(ids) == int(np.ceil(seconds * rate))
        assert len(model.decode(ids).samples) == len(ids) * 16_000 // rate
    assert len(model.encode(noise(0.48, 44_100, 2))) == 0.48 * rate


@pytest.mark.parametrize("num", [1, 24, 25, 26, 83])
@pytest.mark.parametrize("ids_at_once", [1, 7, 25])
def test_pieces_are_what_the_whole_is(num: int, ids_at_once: int) -> None:
    model = codec()
    ids = np.random.default_rng(num).integers(0, model.vocab_size, num)
    pieces = list(model.decode_stream(iter(ids.tolist()), ids_at_once=ids_at_once))
    whole = model.decode(ids).samples
    assert np.abs(np.concatenate([piece.samples for piece in pieces]) - whole).max() < 1e-5
    assert all(len(piece.samples) == ids_at_once * 320 for piece in pieces[:-1])


def test_the_first_piece_comes_before_the_last_id() -> None:
    model, given = codec(), 0

    def talker():
        nonlocal given
        for number in [3] * 200:
            given += 1
            yield number

    first = next(model.decode_stream(talker(), ids_at_once=10))
    assert len(first.samples) == 10 * 320
    assert given == 10 + model.lookahead < 40


def test_what_is_beyond_the_lookahead_changes_nothing_and_what_is_within_does() -> None:
    model = codec()
    ids = np.zeros(60, np.int64)
    whole = model.decode(ids).samples
    for place, is_felt in ((30 + model.lookahead, True), (31 + model.lookahead, False)):
        changed = ids.copy()
        changed[place] = 17
        apart = np.abs(model.decode(changed).samples - whole)[30 * 320 : 31 * 320].max()
        assert (apart > 1e-7) == is_felt


def test_training_sees_what_decoding_gives() -> None:
    model, frames = codec(), torch.randn(3, 26, 20) - 3
    found = model(Signals(torch.arange(3), frames, torch.zeros(3, 26 * 160)))
    ids = model.encode_frames(frames)
    assert torch.equal(ids, found.ids)
    assert found.values.shape == (3, 26 * 160)
    torch.testing.assert_close(model.decode_ids(ids), found.values, rtol=1e-4, atol=1e-6)


def test_every_parameter_gets_a_gradient_through_the_quantiser() -> None:
    model, frames = codec(), torch.randn(3, 26, 20) - 3
    model(Signals(torch.arange(3), frames, torch.zeros(3, 26 * 160))).values.square().sum().backward()
    without = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    assert without == []


def test_silence_and_what_is_below_hearing_are_the_same_ids() -> None:
    model = codec()
    silent = model.encode(Audio(np.zeros((8_000, 1), np.float32), 16_000))
    faint = model.encode(Audio(np.full((8_000, 1), 1e-9, np.float32), 16_000))
    assert np.array_equal(silent, faint)
    assert np.isfinite(model.decode(silent).samples).all()


def test_the_sound_of_a_video_is_encoded() -> None:
    model, sound = codec(), noise(0.3)
    film = Video(np.zeros((2, 5, 7, 3), np.uint8), np.arange(2.0), sound)
    assert np.array_equal(model.encode(film), model.encode(sound))


def test_what_cannot_be_is_refused_in_one_line() -> None:
    model = codec()
    with pytest.raises(UsageError, match="a sound without samples; give at least one"):
        model.encode(Audio(np.zeros((0, 1), np.float32), 16_000))
    with pytest.raises(UsageError, match="got Image; give an Audio"):
        model.encode(Image(np.zeros((1, 1, 3), np.uint8)))
    with pytest.raises(UsageError, match="no ids; a sound has at least one"):
        model.decode([])
    with pytest.raises(UsageError, match="no ids"):
        list(model.decode_stream([]))
    with pytest.raises(UsageError, match="id 30 is not a code; expected 0 to 29"):
        list(model.decode_stream([3, 30]))
    with pytest.raises(UsageError, match="ids_at_once=0"):
        list(model.decode_stream([3], ids_at_once=0))
