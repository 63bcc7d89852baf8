"""Patches, convolutions, recurrent layers and poolings, by value."""

import pytest
import torch
from torch import nn

from sensorium.core.errors import ConfigError, UsageError
from sensorium.core.types import Tokens
from sensorium.nn.conv import ChannelNorm, ConvNorm, ConvStages, FeaturePyramid
from sensorium.nn.mlp import MLP, GatedMLP
from sensorium.nn.patch import ImagePatches, TimeStem
from sensorium.nn.pooling import POOLINGS
from sensorium.nn.recurrent import Recurrent


def test_patches_equal_a_strided_convolution() -> None:
    patches, images = ImagePatches(4, 7), torch.randn(2, 3, 12, 20)
    weight = patches.project.weight.reshape(7, 3, 4, 4)
    expected = torch.nn.functional.conv2d(images, weight, patches.project.bias, stride=4)
    torch.testing.assert_close(patches(images), expected.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match="13 x 20 px is not made of 4 px patches"):
        patches(torch.zeros(1, 3, 13, 20))


@pytest.mark.parametrize("strides", [(1, 2), (2, 2)])
def test_time_stem_gives_a_padded_sound_what_it_gives_it_alone(strides: tuple[int, int]) -> None:
    stem, frames = TimeStem(5, 7, strides).double(), torch.randn(3, 23, 5, dtype=torch.float64)
    lengths = torch.tensor([23, 10, 1])
    mask = torch.arange(23) < lengths[:, None]
    tokens, token_mask = stem(frames, mask)
    for row, length in enumerate(lengths.tolist()):
        alone, alone_mask = stem(frames[row : row + 1, :length], mask[row : row + 1, :length])
        assert alone_mask.all()
        torch.testing.assert_close(tokens[row][token_mask[row]], alone[0])


def test_conv_stages_halve_and_hide() -> None:
    stages, x = ConvStages(1, (5, 7, 11), (1, 2, 1), "layer").double(), torch.randn(2, 1, 37, 20).double()
    mask = torch.arange(37) < torch.tensor([[37], [13]])
    out, rows = stages(x, mask)
    assert out.shape == (2, 11, 5, 3)
    assert rows is not None
    assert rows.sum(dim=1).tolist() == [5, 2]
    assert stages.stride == 8
    alone, _ = stages(x[1:, :, :13], mask[1:, :13])
    torch.testing.assert_close(out[1, :, :2], alone[0])
    assert out[1, :, 2:].abs().max() == 0


def test_maps_are_those_of_the_stages_and_merge_into_the_finest() -> None:
    stages, x = ConvStages(3, (5, 7, 11), (1, 2, 1), "layer"), torch.randn(2, 3, 40, 56)
    maps, _ = stages.maps(x)
    assert [tuple(one.shape[1:]) for one in maps] == [(5, 20, 28), (7, 10, 14), (11, 5, 7)]
    torch.testing.assert_close(maps[-1], stages(x)[0])
    merge = FeaturePyramid((7, 11), 13)
    merged = merge(maps[1:])
    fine, coarse = (lateral(one) for lateral, one in zip(merge.lateral, maps[1:], strict=True))
    added = merged - fine
    torch.testing.assert_close(added[..., ::2, ::2], coarse)
    torch.testing.assert_close(added[..., ::2, 1:-1:2], (coarse[..., :-1] + coarse[..., 1:]) / 2)
    odd = FeaturePyramid((7, 11), 13)([maps[1][..., :-1], maps[2]])
    assert odd.shape == (2, 13, 10, 13)


def test_a_residual_block_adds_to_its_input() -> None:
    stages = ConvStages(3, (5,), (2,), "layer")
    for block in stages.blocks:
        torch.nn.init.zeros_(block.second.norm.weight)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(stages(x)[0], stages.stem(x).relu())


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_shortcut_equals_a_strided_convolution_without_being_one(stride: int) -> None:
    short = ConvNorm(5, 7, 1, stride, "layer").double()
    x = torch.randn(3, 5, 13, 11, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    expected = short.norm(nn.functional.conv2d(x, short.conv.weight, stride=stride))
    torch.testing.assert_close(short(x), expected)
    assert short.conv.stride == (1, 1)  # torch 2.13 corrupts memory in the backward pass of a strided one


def test_channel_norm_equals_layer_norm_at_each_place() -> None:
    norm, x = ChannelNorm(7), torch.randn(2, 7, 3, 5)
    expected = torch.nn.functional.layer_norm(x[1, :, 2, 4], (7,), eps=1e-6)
    torch.testing.assert_close(norm(x)[1, :, 2, 4], expected)


def test_mlps_compute_their_formula() -> None:
    x = torch.randn(2, 3, 5)
    plain, gated = MLP(5, 7), GatedMLP(5, 7)
    torch.testing.assert_close(plain(x), plain.down(torch.nn.functional.gelu(plain.up(x))))
    gate = gated.gate(x)
    torch.testing.assert_close(gated(x), gated.down(gate * gate.sigmoid() * gated.up(x)))


def test_backward_reading_starts_at_the_own_end() -> None:
    layers, values = Recurrent(5, 14, 2).double(), torch.randn(2, 7, 5, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([[7], [3]])
    together = layers(Tokens(values, mask))
    alone = layers(Tokens(values[1:, :3], mask[1:, :3]))
    torch.testing.assert_close(together[1, :3], alone[0])
    assert together[1, 3:].abs().max() == 0


def test_one_direction_does_not_see_the_future() -> None:
    layers, values = Recurrent(5, 7, is_bidirectional=False), torch.randn(1, 6, 5)
    mask = torch.ones(1, 6, dtype=torch.bool)
    changed = values.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(layers(Tokens(values, mask))[:, :4], layers(Tokens(changed, mask))[:, :4])


def test_odd_width_for_two_directions_is_refused() -> None:
    with pytest.raises(ConfigError, match="width=7 is odd"):
        Recurrent(5, 7)


def test_poolings_by_value() -> None:
    values = torch.tensor([[[1.0, 4.0], [3.0, 0.0], [50.0, 60.0]]])
    tokens = Tokens(values, torch.tensor([[True, True, False]]))

    def pooled(name: str, **options: object) -> list[float]:
        return POOLINGS.build(name, dim=2, **options)(tokens)[0].tolist()

    assert pooled("mean") == [2.0, 2.0]
    assert pooled("max") == [3.0, 4.0]
    assert pooled("first") == [1.0, 4.0]
    assert pooled("gem", power=1.0) == pytest.approx([2.0, 2.0], rel=1e-5)
    assert pooled("gem", power=2.0) == pytest.approx([5**0.5, 8**0.5], rel=1e-5)
