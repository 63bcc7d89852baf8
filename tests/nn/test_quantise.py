"""Finite scalar quantisation: every level is reached, ids and codes are one, gradients pass."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import UsageError
from sensorium.nn.quantise import Fsq

LEVELS = st.lists(st.integers(2, 9), min_size=1, max_size=4)


@settings(deadline=None)
@given(LEVELS)
def test_ids_and_codes_are_one(levels: list[int]) -> None:
    grid = Fsq(levels)
    ids = torch.arange(grid.size)
    codes = grid.to_codes(ids)
    assert torch.equal(grid.to_ids(codes), ids)
    assert len(torch.unique(codes, dim=0)) == grid.size == np.prod(levels)
    assert codes.abs().max() <= 1


@settings(deadline=None)
@given(LEVELS, st.integers(0, 99))
def test_rounding_gives_the_codes_of_its_ids(levels: list[int], seed: int) -> None:
    grid = Fsq(levels)
    draws = torch.Generator().manual_seed(seed)
    found = grid(3 * torch.randn(11, 5, len(levels), generator=draws))
    assert found.ids.dtype == torch.int64
    torch.testing.assert_close(found.codes, grid.to_codes(found.ids), rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", range(2, 10))
def test_every_level_is_reached_and_zero_is_in_the_middle(level: int) -> None:
    grid = Fsq([level])
    ids = grid(torch.linspace(-9, 9, 4001)[:, None]).ids
    assert torch.equal(ids, ids.sort().values)
    assert ids.unique().tolist() == list(range(level))
    assert int(grid(torch.zeros(1, 1)).ids) == level // 2


def published(z: np.ndarray, levels: list[int]) -> np.ndarray:
    """Appendix A.1 of the paper, in NumPy."""
    counts = np.array(levels)
    half = (counts - 1) * (1 + 1e-3) / 2
    offset = np.where(counts % 2 == 1, 0.0, 0.5)
    bounded = np.tanh(z + np.arctanh(offset / half)) * half - offset
    steps = np.round(bounded) + counts // 2
    basis = np.concatenate([[1], np.cumprod(counts[:-1])])
    return (steps * basis).sum(axis=-1).astype(np.int64)


def test_it_is_the_published_formula() -> None:
    z = np.random.default_rng(3).normal(0, 2, (997, 5))
    levels = [8, 5, 6, 3, 2]
    assert np.array_equal(Fsq(levels)(torch.from_numpy(z).float()).ids.numpy(), published(z, levels))


def test_the_gradient_is_that_of_the_bound() -> None:
    grid = Fsq([7, 4])
    z = torch.randn(13, 2, requires_grad=True)
    weights = torch.randn(13, 2)
    (through,) = torch.autograd.grad((grid(z).codes * weights).sum(), z)
    (bounded,) = torch.autograd.grad((grid.bound(z) / grid.radius * weights).sum(), z)
    assert torch.equal(through, bounded)
    assert through.abs().max() > 0


def test_it_rounds_in_float32_whatever_comes() -> None:
    grid, z = Fsq([9, 8]), torch.randn(101, 2).bfloat16()
    assert torch.equal(grid(z).ids, grid(z.float()).ids)
    assert not grid.state_dict()


@pytest.mark.parametrize("wrong", [-1, 15])
def test_what_is_no_id_is_refused(wrong: int) -> None:
    with pytest.raises(UsageError, match=f"id {wrong} is not a code; expected 0 to 14"):
        Fsq([3, 5]).to_codes(torch.tensor([0, wrong]))
    with pytest.raises(UsageError, match="each 2 or more"):
        Fsq([3, 1])
