"""The loss of the next id: tiles equal the plain form and its gradient, ignored places count for nothing."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sensorium.core.errors import UsageError
from sensorium.losses.generative import IGNORED, next_id_loss

N, V, D = 13, 31, 7


def world(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(N, D, generator=generator, dtype=dtype).requires_grad_()
    matrix = torch.randn(V, D, generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(V, (N,), generator=generator)
    targets[[0, 6]] = IGNORED
    return hidden, matrix, targets


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(3 * loss, of))


@pytest.mark.parametrize("tile_rows", [1, 5, 11, 99, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_tiles_equal_the_plain_form(tile_rows: int | None, smoothing: float) -> None:
    hidden, matrix, targets = world()
    plain = functional.cross_entropy(
        hidden @ matrix.T, targets, ignore_index=IGNORED, label_smoothing=smoothing
    )
    tiled = next_id_loss(hidden, matrix, targets, smoothing=smoothing, tile_rows=tile_rows)
    assert abs(float((tiled - plain).detach())) <= 1e-12
    for mine, theirs in zip(gradients(tiled, hidden, matrix), gradients(plain, hidden, matrix), strict=True):
        assert (mine - theirs).abs().max() <= 1e-12


def test_weights_make_a_weighted_mean() -> None:
    hidden, matrix, targets = world()
    weights = torch.linspace(0, 2, N, dtype=torch.float64)
    each = functional.cross_entropy(hidden @ matrix.T, targets, ignore_index=IGNORED, reduction="none")
    real = targets != IGNORED
    plain = (weights * each)[real].sum() / weights[real].sum()
    tiled = next_id_loss(hidden, matrix, targets, weights=weights, tile_rows=4)
    assert abs(float((tiled - plain).detach())) <= 1e-12
    assert (gradients(tiled, hidden)[0] - gradients(plain, hidden)[0]).abs().max() <= 1e-12


def test_what_stands_at_ignored_places_changes_no_bit() -> None:
    hidden, matrix, targets = world()
    spoilt = hidden.detach().clone()
    spoilt[[0, 6]] = float("nan")
    spoilt.requires_grad_()
    one, other = (next_id_loss(x, matrix, targets, tile_rows=3) for x in (hidden, spoilt))
    assert torch.equal(one, other)
    (to_spoilt,) = gradients(other, spoilt)
    assert torch.equal(to_spoilt, gradients(one, hidden)[0])
    assert not to_spoilt[[0, 6]].any()


def test_nothing_to_learn_is_no_loss_and_no_gradient() -> None:
    hidden, matrix, targets = world()
    loss = next_id_loss(hidden, matrix, torch.full_like(targets, IGNORED))
    assert float(loss.detach()) == 0
    assert not any(gradient.any() for gradient in gradients(loss, hidden, matrix))


def test_a_frozen_matrix_gets_no_gradient() -> None:
    hidden, matrix, targets = world()
    next_id_loss(hidden, matrix.detach(), targets).backward()
    assert hidden.grad is not None
    assert matrix.grad is None


def test_half_precision_sums_in_float32() -> None:
    hidden, matrix, targets = world(torch.float32)
    loss = next_id_loss(hidden.bfloat16(), matrix.bfloat16(), targets)
    assert loss.dtype == torch.float32
    exact = next_id_loss(hidden, matrix, targets)
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.02)


@pytest.mark.parametrize(("target", "smoothing"), [(V, 0.0), (-1, 0.0), (0, 1.0)])
def test_what_is_no_id_is_refused(target: int, smoothing: float) -> None:
    hidden, matrix, targets = world()
    targets[3] = target
    with pytest.raises(UsageError, match=f"ids below {V}"):
        next_id_loss(hidden, matrix, targets, smoothing=smoothing)
