"""Positions: rotary products depend on distances alone, and the closed forms hold."""

import math

import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.nn.position import LearnedPositions, Rotary, grid_positions, sinusoidal


def test_rotated_products_depend_on_distance_alone() -> None:
    rotary, generator = Rotary(22).double(), torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 22, generator=generator, dtype=torch.float64)

    def product(at: int, to: int) -> float:
        return float((rotary(q, torch.tensor([[at]])) * rotary(k, torch.tensor([[to]]))).sum())

    assert product(3, 10) == pytest.approx(product(90, 97), abs=1e-10)
    assert product(3, 10) != pytest.approx(product(3, 11), abs=1e-2)


def test_rotation_keeps_lengths_and_leaves_position_zero() -> None:
    x = torch.randn(2, 3, 5, 22)
    rotated = Rotary(22)(x)
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotated[:, :, 0], x[:, :, 0])


def test_rotation_is_the_complex_product() -> None:
    x = torch.randn(1, 1, 7, 6, dtype=torch.float64)
    angles = torch.arange(7)[:, None] * 10_000.0 ** -(torch.arange(0, 6, 2, dtype=torch.float64) / 6)
    expected = torch.complex(x[..., :3], x[..., 3:]) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(
        Rotary(6)(x), torch.cat([expected.real, expected.imag], -1), rtol=1e-12, atol=1e-12
    )


def test_bfloat16_models_keep_far_positions_apart() -> None:
    rotary, x = Rotary(22).bfloat16(), torch.ones(1, 1, 1, 22, dtype=torch.bfloat16)
    far = torch.tensor([[5003]])
    torch.testing.assert_close(rotary(x, far).double(), Rotary(22)(x.double(), far), rtol=0.02, atol=0.02)


def test_two_axes_turn_apart() -> None:
    rotary, x = Rotary(12, num_axes=2), torch.randn(1, 1, 1, 12)
    down = rotary(x, torch.tensor([[[5, 0]]])) != x
    right = rotary(x, torch.tensor([[[0, 5]]])) != x
    assert not (down & right).any()
    assert (down | right).all()


def test_odd_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 4"):
        Rotary(10, num_axes=2)


def test_sinusoidal_closed_form() -> None:
    table = sinusoidal(11, 6, longest=100.0)
    assert table[7].tolist() == pytest.approx(
        [math.sin(7), math.sin(0.7), math.sin(0.07), math.cos(7), math.cos(0.7), math.cos(0.07)], abs=1e-6
    )


def test_learned_positions_are_added_and_bounded() -> None:
    positions, x = LearnedPositions(7, 5), torch.zeros(2, 3, 5)
    torch.testing.assert_close(positions(x, start=4)[1], positions.table[4:7])
    with pytest.raises(ConfigError, match="8 positions, but 7"):
        positions(x, start=5)


def test_grid_is_in_reading_order() -> None:
    assert grid_positions(2, 3)[0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
