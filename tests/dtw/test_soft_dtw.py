"""Soft-DTW against a reference in plain PyTorch: values, gradients, precision, lengths, windows, limits."""

import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sensorium.align import soft_dtw, soft_dtw_divergence, soft_dtw_from_costs
from sensorium.core.errors import UsageError
from sensorium.dtw import soft_kernels, soft_pairs
from sensorium.dtw.windows import Itakura, SakoeChiba, Slanted, Window, ranges

GAMMAS = (1e-3, 0.3, 1.0, 1e4)


def walks(batch: int, length: int, width: int, number: int, dtype: torch.dtype = torch.float64) -> Tensor:
    stream = torch.Generator().manual_seed(number)
    return torch.randn(batch, length, width, generator=stream, dtype=dtype).cumsum(1)


def reference(x: Tensor, y: Tensor, gamma: float, window: Window = None) -> Tensor:
    """One pair, cell by cell, differentiated by PyTorch."""
    n, m = len(x), len(y)
    costs, within = (x[:, None] - y[None]).square().sum(-1), ranges(window, n, m)
    total: dict[tuple[int, int], Tensor] = {}
    for i in range(n):
        for j in range(int(within.low[i]), int(within.high[i])):
            before = [total[cell] for cell in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if cell in total]
            if before:
                total[i, j] = costs[i, j] - gamma * torch.logsumexp(-torch.stack(before) / gamma, 0)
            elif (i, j) == (0, 0):
                total[i, j] = costs[i, j]
    return total[n - 1, m - 1]


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Value and gradients, the pairs weighted differently so that mixing them up shows."""
    inputs = tuple(one.detach().clone().requires_grad_() for one in inputs)
    values = function(*inputs)
    weights = 1 + torch.arange(values.numel(), dtype=values.dtype).reshape(values.shape)
    return values.detach(), *torch.autograd.grad((weights * values).sum(), inputs)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-12))


@pytest.fixture(params=["kernels", "plain", "chunks"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to compute: machine code, plain PyTorch, machine code a few diagonals at a time."""
    monkeypatch.setattr(soft_pairs, "usable", lambda: request.param != "plain")
    monkeypatch.setattr(soft_kernels, "CHUNK_CELLS", 17 if request.param == "chunks" else 1 << 20)
    return request.param


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize(("n", "m"), [(13, 11), (1, 7), (7, 1), (1, 1), (5, 17)])
def test_value_and_gradients_are_those_of_plain_autograd(path: str, gamma: float, n: int, m: int) -> None:
    x, y = walks(3, n, 2, 1), walks(3, m, 2, 2)
    found = gradients(lambda x, y: soft_dtw(x, y, gamma=gamma), x, y)
    wanted = gradients(
        lambda x, y: torch.stack([reference(*pair, gamma) for pair in zip(x, y, strict=True)]), x, y
    )
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10 * max(1.0, gamma))


@pytest.mark.parametrize("window", [None, 5, SakoeChiba(7), Slanted(1), Itakura(2.5)])
def test_each_pair_of_a_padded_batch_is_as_it_is_alone(path: str, window: Window) -> None:
    x, y, lengths = walks(3, 13, 2, 3), walks(3, 11, 2, 4), ([13, 5, 7], torch.tensor([9, 10, 11]))
    found = gradients(lambda x, y: soft_dtw(x, y, gamma=0.7, lengths=lengths, window=window), x, y)
    for pair, (n, m) in enumerate(zip(lengths[0], lengths[1].tolist(), strict=True)):
        alone = gradients(lambda x, y: reference(x, y, 0.7, window)[None], x[pair, :n], y[pair, :m])
        torch.testing.assert_close(found[0][pair], alone[0][0], rtol=1e-11, atol=1e-11)
        for ours, theirs in zip(found[1:], alone[1:], strict=True):
            torch.testing.assert_close(ours[pair, : len(theirs)], (pair + 1) * theirs, rtol=1e-10, atol=1e-10)
            assert not ours[pair, len(theirs) :].any()


def test_padding_changes_no_bit(path: str) -> None:
    x, y, lengths = walks(2, 7, 3, 5), walks(2, 5, 3, 6), ([7, 3], [2, 5])
    clean = gradients(lambda x, y: soft_dtw(x, y, lengths=lengths), x, y)
    x[1, 3:], y[0, 2:] = math.nan, math.inf
    dirty = gradients(lambda x, y: soft_dtw(x, y, lengths=lengths), x, y)
    assert all(torch.equal(*pair) for pair in zip(clean, dirty, strict=True))


def test_a_matrix_as_window_with_holes(path: str) -> None:
    mask = np.ones((7, 5), dtype=np.bool_)
    mask[2, 2], mask[5, 0], mask[1, 4] = False, False, False
    costs = (walks(1, 7, 2, 7)[:, :, None] - walks(1, 5, 2, 8)[:, None]).square().sum(-1)
    value, visits = gradients(lambda costs: soft_dtw_from_costs(costs, gamma=2.0, window=mask), costs)
    dear = costs.masked_fill(~torch.from_numpy(mask), 1e6)
    wanted, wanted_visits = gradients(lambda costs: soft_dtw_from_costs(costs, gamma=2.0), dear)
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(visits, wanted_visits)
    assert not visits[0][~torch.from_numpy(mask)].any()


def test_gradcheck() -> None:
    x, y = walks(2, 3, 2, 9).requires_grad_(), walks(2, 5, 2, 10).requires_grad_()
    lengths = ([3, 2], [4, 5])
    for function in (soft_dtw, soft_dtw_divergence):
        assert torch.autograd.gradcheck(lambda x, y, f=function: f(x, y, gamma=0.9, lengths=lengths), (x, y))
    costs = torch.rand(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(
        lambda costs: soft_dtw_from_costs(costs, lengths=lengths), (costs.requires_grad_(),)
    )


@pytest.mark.parametrize("kind", ["walks", "far from 0", "unit vectors", "noise"])
def test_gradient_in_float32_has_float32s_digits(path: str, kind: str) -> None:
    """The promise: 1e-6 on 16-D walks of 512 frames, where peers lose everything; and on harder inputs."""
    n = 512 if path == "kernels" else 127
    x, y = (walks(2, n, 16, number, torch.float32) for number in (11, 12))
    if kind == "far from 0":
        x, y = x + 1000, y + 1000
    if kind in ("unit vectors", "noise"):
        x, y = (series.diff(dim=1) for series in (x, y))
    gamma = 0.1 if kind == "unit vectors" else 1.0
    if kind == "unit vectors":
        x, y = torch.nn.functional.normalize(x, dim=-1), torch.nn.functional.normalize(y, dim=-1)
    narrow = gradients(lambda x, y: soft_dtw(x, y, gamma=gamma), x, y)
    wide = gradients(lambda x, y: soft_dtw(x, y, gamma=gamma), x.double(), y.double())
    assert all(one.dtype == torch.float32 for one in narrow)
    assert max(relative(*pair) for pair in zip(narrow, wide, strict=True)) < 1e-7


def test_a_sum_of_costs_kept_in_float32_would_not_have_them() -> None:
    """The check above can fail: the published backward pass on R rounded to float32."""
    x, y = walks(1, 61, 16, 11)[0], walks(1, 61, 16, 12)[0]
    costs = (x[:, None] - y[None]).square().sum(-1)
    total = torch.full((63, 63), math.inf)
    total[0, 0] = 0
    for i in range(1, 62):
        for j in range(1, 62):
            before = torch.stack([total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]]).double()
            total[i, j] = (costs[i - 1, j - 1] - torch.logsumexp(-before, 0)).float()
    visits, total = torch.zeros(63, 63, dtype=torch.float64), total.double()
    visits[61, 61] = 1
    for i in range(61, 0, -1):
        for j in range(61, 0, -1):
            for a, b in ((i + 1, j + 1), (i + 1, j), (i, j + 1)):
                if a <= 61 and b <= 61:
                    weight = (total[a, b] - total[i, j] - costs[a - 1, b - 1]).exp()
                    visits[i, j] += visits[a, b] * weight
    wanted = gradients(soft_dtw_from_costs, costs[None])[1][0]
    assert relative(visits[1:-1, 1:-1], wanted) > 1e-4


def test_gamma_to_zero_is_exact_dtw(path: str) -> None:
    x, y = walks(1, 23, 3, 13), walks(1, 19, 3, 14)
    costs = (x[0, :, None] - y[0]).square().sum(-1)
    total = torch.full((24, 20), math.inf, dtype=torch.float64)
    total[0, 0] = 0
    for i in range(23):
        for j in range(19):
            total[i + 1, j + 1] = costs[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    value, visits = gradients(lambda costs: soft_dtw_from_costs(costs, gamma=1e-9), costs[None])
    torch.testing.assert_close(value[0], total[-1, -1], rtol=1e-12, atol=0)
    assert set(visits.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close((visits[0] * costs).sum(), total[-1, -1])


def test_gamma_to_infinity_counts_paths(path: str) -> None:
    """All paths alike: 41 lead through 3 x 5 cells (a Delannoy number), 5 x 5 of them past the middle."""
    value, visits = gradients(
        lambda costs: soft_dtw_from_costs(costs, gamma=1e9), torch.rand(1, 3, 5).double()
    )
    assert value.item() / -1e9 == pytest.approx(math.log(41), abs=1e-8)
    assert visits[0, 1, 2].item() == pytest.approx(25 / 41, abs=1e-7)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(GAMMAS), st.integers(0, 99))
def test_divergence_is_one(n: int, m: int, gamma: float, number: int) -> None:
    x, y = walks(1, n, 2, number), walks(1, m, 2, number + 100)
    between = soft_dtw_divergence(x, y, gamma=gamma).item()
    assert between >= -1e-12 * max(1.0, gamma)
    assert between == pytest.approx(
        soft_dtw_divergence(y, x, gamma=gamma).item(), abs=1e-12 * max(1.0, gamma)
    )
    value, for_x, for_y = gradients(lambda x, y: soft_dtw_divergence(x, y, gamma=gamma), x, x)
    assert value.item() == 0.0
    torch.testing.assert_close(for_x, torch.zeros_like(x), atol=1e-12 * float(x.abs().max()), rtol=0)
    torch.testing.assert_close(for_y, torch.zeros_like(x), atol=1e-12 * float(x.abs().max()), rtol=0)


def test_a_series_is_learnt_through_the_divergence() -> None:
    target = walks(1, 17, 2, 15)
    x = torch.zeros(1, 17, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        soft_dtw_divergence(x, target, gamma=1.0).sum().backward()
        optimizer.step()
    assert soft_dtw_divergence(x, target).item() < 0.1 * soft_dtw_divergence(0 * target, target).item()


def test_half_precision_comes_back_in_kind() -> None:
    x, y = walks(2, 7, 3, 16).bfloat16(), walks(2, 5, 3, 17).bfloat16()
    value, for_x, _ = gradients(soft_dtw, x, y)
    assert (value.dtype, for_x.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value, soft_dtw(x.float(), y.float()))


def test_only_gradients_are_kept_for_the_backward_pass() -> None:
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        soft_dtw(walks(3, 101, 2, 18).requires_grad_(), walks(3, 103, 2, 19).requires_grad_())
    assert sum(kept) == 3 * (101 + 103) * 2


def test_empty_batch() -> None:
    assert soft_dtw(torch.zeros(0, 3, 2), torch.zeros(0, 5, 2)).shape == (0,)


X, Y = torch.zeros(2, 3, 5), torch.zeros(2, 7, 5)
unchecked = inspect.unwrap  # without the tests' own checks of shapes, which users do not have


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: unchecked(soft_dtw)(X[0], Y[0]), "x[None]"),
        (lambda: unchecked(soft_dtw)(X, Y[:, :, :4]), "(B, n, D)"),
        (lambda: soft_dtw(X, Y.double()), "make them agree"),
        (lambda: soft_dtw(X[:, :0], Y), "at least one"),
        (lambda: soft_dtw(X, Y, gamma=0.0), "gamma=0.0"),
        (lambda: soft_dtw(X, Y, gamma=math.nan), "gamma=nan"),
        (lambda: soft_dtw(X, Y, lengths=([1, 4], None)), "from 1 to 3"),
        (lambda: soft_dtw(X, Y, lengths=(None, [7])), "expected 2 numbers"),
        (lambda: soft_dtw(X, Y, window=2), "impossible for lengths 3 and 7"),
        (lambda: soft_dtw(X, Y, window=-1), "negative"),
        (lambda: soft_dtw(X, Y.index_fill(1, torch.tensor(6), math.nan)), "y[0] holds NaN"),
        (lambda: soft_dtw_divergence(X, Y, window=np.ones((3, 7), dtype=np.bool_)), "matrix"),
        (lambda: unchecked(soft_dtw_from_costs)(X[0]), "(B, n, m)"),
        (lambda: soft_dtw_from_costs(X + math.inf), "costs[0]"),
        (lambda: soft_dtw_from_costs(X, window=np.eye(3, 5, dtype=np.bool_)), "impossible"),
    ],
)
def test_mistakes_are_told_in_one_line(path: str, call: Callable[[], Tensor], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [2.0**-300, 2.0**-140, 2.0**140, 2.0**300])
def test_a_power_of_two_goes_through_values_and_gradients(scale: float) -> None:
    random = torch.Generator().manual_seed(3)
    x, y = (torch.randn(2, size, 3, generator=random, dtype=torch.float64) for size in (5, 7))
    found = []
    for factor in (1.0, scale):
        left = (factor * x).requires_grad_()
        value = soft_dtw(left, factor * y, gamma=0.5 * factor * factor)
        value.sum().backward()
        found.append((value.detach() / factor / factor, left.grad / factor))
    torch.testing.assert_close(found[1], found[0], rtol=1e-13, atol=0)


def test_what_float32_or_gamma_cannot_hold_is_refused() -> None:
    x = torch.full((1, 2, 1), 1e30)
    with pytest.raises(UsageError, match="too large for float32"):
        soft_dtw(x, -x)
    assert soft_dtw(x.double(), -x.double()).item() == pytest.approx(8e60, rel=1e-6)
    for gamma in (1e-320, 1e300):
        with pytest.raises(UsageError, match="gamma"):
            soft_dtw(x, x, gamma=gamma)
