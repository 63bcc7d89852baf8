"""The tiled losses equal the plain ones, in value and in every gradient."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from sensorium.core.errors import UsageError
from sensorium.losses import LOSSES, info_nce, sigmoid
from sensorium.losses.positives import Positives

WIDTH = 13


def rows(num: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.randn(num, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(values, dim=1).to(dtype).requires_grad_()


def plain_info_nce(a: Tensor, b: Tensor, scale: Tensor, of_a: Tensor, of_b: Tensor) -> Tensor:
    logits = scale * a @ b.T
    mask = (of_a[:, None] == of_b[None]).to(a.dtype)
    total = a.new_zeros(())
    for log_p, positive in ((logits.log_softmax(1), mask), (logits.T.log_softmax(1), mask.T)):
        anchors = positive.sum(1) > 0
        total = total - ((log_p * positive).sum(1)[anchors] / positive.sum(1)[anchors]).mean()
    return total


def plain_sigmoid(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, of_a: Tensor, of_b: Tensor) -> Tensor:
    sign = torch.where(of_a[:, None] == of_b[None], 1.0, -1.0).to(a.dtype)
    return -logsigmoid(sign * (scale * a @ b.T + bias)).sum() / len(a)


def assert_same(ours: Tensor, plain: Tensor, inputs: list[Tensor], tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)
    got = torch.autograd.grad(ours, inputs)
    for one, expected in zip(got, torch.autograd.grad(plain, inputs), strict=True):
        torch.testing.assert_close(one, expected, rtol=tolerance, atol=tolerance)


def groups_of(kind: str, num: int) -> tuple[object, Tensor, Tensor]:
    """What is passed as `positives`, and the groups of a and of b that it means."""
    stream = torch.Generator().manual_seed(5)
    own = torch.arange(num)
    some = torch.randint(0, max(1, num // 3), (num,), generator=stream) * 7 - 3
    other = torch.randint(0, max(1, num // 3), (num,), generator=stream) * 7 - 3
    # In `apart` some rows of either side have no positive at all.
    return {"none": (None, own, own), "one": (some, some, some), "apart": ((some, other), some, other)}[kind]


@pytest.mark.parametrize("kind", ["none", "one", "apart"])
@pytest.mark.parametrize(
    ("num", "tile"), [(1, 1), (1, 64), (23, 1), (23, 7), (23, 23), (23, 64), (29, 28), (32, 8)]
)
class TestTiledEqualsPlain:
    def test_info_nce(self, kind: str, num: int, tile: int) -> None:
        a, b = rows(num, 1), rows(num, 2)
        positives, of_a, of_b = groups_of(kind, num)
        for value in (14.3, 1234.5):  # the greater is past what a float64 exponential holds
            scale = torch.tensor(value, dtype=torch.float64, requires_grad=True)
            ours = info_nce(a, b, scale, positives=positives, tile=tile)
            tolerance = 1e-12 * max(1, value / 100)
            assert_same(ours, plain_info_nce(a, b, scale, of_a, of_b), [a, b, scale], tolerance)

    def test_sigmoid(self, kind: str, num: int, tile: int) -> None:
        a, b = rows(num, 3), rows(num, 4)
        scale = torch.tensor(10.1, dtype=torch.float64, requires_grad=True)
        bias = torch.tensor(-7.9, dtype=torch.float64, requires_grad=True)
        positives, of_a, of_b = groups_of(kind, num)
        ours = sigmoid(a, b, scale, bias, positives=positives, tile=tile)
        assert_same(ours, plain_sigmoid(a, b, scale, bias, of_a, of_b), [a, b, scale, bias])


def test_info_nce_is_twice_the_half_sum() -> None:
    a, b = rows(11, 1), rows(11, 2)
    logits, target = 7.0 * a @ b.T, torch.arange(11)
    half_sum = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(info_nce(a, b, 7.0), 2 * half_sum)


def test_closed_forms() -> None:
    a = torch.eye(5, dtype=torch.float64)
    expected = 2 * math.log(1 + 4 * math.exp(-3.0))
    assert info_nce(a, a, 3.0).item() == pytest.approx(expected, rel=1e-14)
    expected = math.log1p(math.exp(-2.0)) + 4 * math.log1p(math.exp(-1.0))
    assert sigmoid(a, a, 3.0, -1.0).item() == pytest.approx(expected, rel=1e-14)


def test_sigmoid_is_exact_where_the_softplus_turns_linear() -> None:
    a, b, own = rows(23, 1), rows(23, 2), torch.arange(23)
    for value in (20.0, 39.0, 41.0):
        scale, bias = torch.tensor(0.01, dtype=torch.float64), torch.tensor(value, dtype=torch.float64)
        expected = plain_sigmoid(a, b, scale, bias, own, own)
        torch.testing.assert_close(sigmoid(a, b, scale, bias, tile=7), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("tile", [7, 64])
def test_gradient_agrees_with_finite_differences(tile: int) -> None:
    a, b, groups = rows(17, 1), rows(17, 2), torch.arange(17) % 5
    scale = torch.tensor(3.7, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-2.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: info_nce(*x, positives=groups, tile=tile), (a, b, scale))
    assert torch.autograd.gradcheck(lambda *x: sigmoid(*x, positives=groups, tile=tile), (a, b, scale, bias))


@pytest.mark.parametrize("tile", [7, 64])
def test_incoming_gradient_and_a_second_backward(tile: int) -> None:
    a, b = rows(19, 1), rows(19, 2)
    for loss in (info_nce(a, b, 5.0, tile=tile), sigmoid(a, b, 5.0, -5.0, tile=tile)):
        (once,) = torch.autograd.grad(loss, a, retain_graph=True)
        (thrice,) = torch.autograd.grad(3 * loss, a, retain_graph=True)
        (again,) = torch.autograd.grad(loss, a)
        torch.testing.assert_close(thrice, 3 * once, rtol=1e-13, atol=1e-15)
        assert torch.equal(once, again)


@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("tile", [7, 64])
def test_a_frozen_side_gets_no_gradient_and_the_other_the_same(frozen: int, tile: int) -> None:
    sides = [rows(19, 1), rows(19, 2)]
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    free = 1 - frozen
    half = [side.detach() if i == frozen else side for i, side in enumerate(sides)]
    for loss in (
        lambda x, y: info_nce(x, y, scale, tile=tile),
        lambda x, y: sigmoid(x, y, scale, -5.0, tile=tile),
    ):
        expected = torch.autograd.grad(loss(*sides), [sides[free], scale])
        got = torch.autograd.grad(loss(*half), [sides[free], scale])
        assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))


def test_extreme_scales_stay_finite_and_right_in_float32() -> None:
    a, b = rows(37, 1, torch.float32), rows(37, 2, torch.float32)
    for value in (0.0, 100.0, 5000.0):
        scale = torch.tensor(value, requires_grad=True)
        ours = info_nce(a, b, scale, tile=11)
        wide = scale.detach().double().requires_grad_()
        a64, b64, own = a.detach().double(), b.detach().double(), torch.arange(37)
        torch.testing.assert_close(
            ours.double(), plain_info_nce(a64, b64, wide, own, own), rtol=2e-6, atol=1e-6
        )
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(ours, [a, b, scale]))


@pytest.mark.parametrize("tile", [11, 64])
def test_float32_is_as_good_on_either_side_of_the_bound(tile: int) -> None:
    a, b, own = rows(37, 1, torch.float32), rows(37, 2, torch.float32), torch.arange(37)
    wide = [x.detach().double().requires_grad_() for x in (a, b)]
    for value in (72.0, 73.0, -72.0):  # 80 - 2 log 37 = 72.8
        ours = torch.autograd.grad(info_nce(a, b, value, tile=tile), [a, b])
        scale = torch.tensor(value, dtype=torch.float64)
        plain = torch.autograd.grad(plain_info_nce(*wide, scale, own, own), wide)
        for one, expected in zip(ours, plain, strict=True):
            torch.testing.assert_close(one.double(), expected, rtol=2e-5, atol=2e-5)


def test_autocast_computes_in_float32() -> None:
    a, b = rows(31, 1, torch.float32), rows(31, 2, torch.float32)
    scale, bias = torch.tensor(30.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    for loss in (lambda: info_nce(a, b, scale, tile=7), lambda: sigmoid(a, b, scale, bias, tile=7)):
        plain = torch.autograd.grad(loss(), [a, b, scale])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss()
            mixed = torch.autograd.grad(value, [a, b, scale])
        assert value.dtype == torch.float32
        assert all(torch.equal(x, y) for x, y in zip(mixed, plain, strict=True))


def test_bfloat16_rows_give_a_float32_loss_and_bfloat16_gradients() -> None:
    a, b = rows(31, 1, torch.bfloat16), rows(31, 2, torch.bfloat16)
    loss = info_nce(a, b, torch.tensor(9.0), tile=7)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, info_nce(a.float(), b.float(), 9.0, tile=7))
    assert torch.autograd.grad(loss, a)[0].dtype == torch.bfloat16


def test_order_of_rows_and_names_of_groups_do_not_matter() -> None:
    a, b, groups = rows(23, 1), rows(23, 2), torch.arange(23) % 4
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    expected = info_nce(a, b, 5.0, positives=groups, tile=7)
    renamed = (groups * -1000 + 17)[order]
    torch.testing.assert_close(info_nce(a[order], b[order], 5.0, positives=renamed, tile=7), expected)
    torch.testing.assert_close(info_nce(b, a, 5.0, positives=groups, tile=7), expected)


def test_without_any_positive_the_loss_is_zero() -> None:
    a, b = rows(5, 1), rows(5, 2)
    loss = info_nce(a, b, 5.0, positives=(torch.zeros(5).long(), torch.ones(5).long()))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, a)[0].any()


def test_it_cannot_be_differentiated_twice() -> None:
    a, b = rows(5, 1), rows(5, 2)
    (grad,) = torch.autograd.grad(info_nce(a, b, 5.0), a, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad.sum().backward()


def test_a_nan_is_passed_on() -> None:
    a, b = rows(5, 1).detach(), rows(5, 2)
    a[2, 3] = math.nan
    assert info_nce(a, b, 5.0, tile=2).isnan()
    assert sigmoid(a, b, 5.0, -5.0, tile=2).isnan()


def test_wrong_calls_are_refused() -> None:
    a, b = rows(5, 1), rows(5, 2)
    with pytest.raises(UsageError, match="tile=0"):
        info_nce(a, b, 5.0, tile=0)
    with pytest.raises(UsageError, match="B >= 1"):
        info_nce(a[:0], b[:0], 5.0)
    with pytest.raises(UsageError, match="group numbers of shape"):
        Positives(5, a.device, torch.arange(4))


def test_the_tile_bounds_what_is_alive() -> None:
    a, b = rows(67, 1), rows(67, 2)
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        info_nce(a, b, scale, tile=8).backward()
        sigmoid(a, b, scale, -5.0, tile=8).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 67 * 67 * 8


def test_losses_are_registered_by_name() -> None:
    assert list(LOSSES) == ["info_nce", "sigmoid"]
    a, b = rows(5, 1), rows(5, 2)
    assert torch.equal(LOSSES.build("info_nce", a=a, b=b, logit_scale=5.0), info_nce(a, b, 5.0))
