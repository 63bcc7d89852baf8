"""Eight bits: a weight moves by half a step of its row at most, and everything else comes back."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.models.int8 import dequantise, quantise


@given(st.integers(0, 2**31), st.floats(-6, 3), st.sampled_from([(64, 33), (32, 8, 3, 3), (3, 700)]))
@settings(deadline=None, max_examples=30)
def test_weights_move_by_half_a_step_at_most(seed: int, size: float, shape: tuple[int, ...]) -> None:
    stream = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=stream) * 10**size
    weight[1] = 0.0
    kept = dequantise(quantise({"w": weight}))["w"]
    step = weight.flatten(1).abs().amax(1).clamp_min(127 * torch.finfo(torch.half).tiny) / 127
    assert kept.shape == weight.shape
    moved = (kept - weight).flatten(1).abs().amax(1)
    assert (moved <= 0.51 * step + 127 * step * 2**-11).all()  # scales are rounded too
    assert (kept[1] == 0).all()


def test_what_is_small_or_whole_stays() -> None:
    given_ = {
        "norm.scale": torch.linspace(0, 1, 5),
        "norm": torch.ones(5),
        "places": torch.arange(2000).view(2, 1000),
        "big.scale": torch.rand(70, 70),
    }
    kept = dequantise(quantise(given_))
    assert list(kept) == list(given_)
    assert torch.equal(kept["places"], given_["places"])
    assert torch.equal(kept["norm.scale"], given_["norm.scale"].half())
    assert (kept["big.scale"] - given_["big.scale"]).abs().max() < 1 / 250
    assert all(torch.equal(one, given_[name]) for name, one in dequantise(given_).items())


def test_it_takes_a_quarter_of_the_room() -> None:
    weight = {"w": torch.randn(256, 256)}
    room = sum(one.numel() * one.element_size() for one in quantise(weight).values())
    assert room < 0.26 * weight["w"].numel() * 4
