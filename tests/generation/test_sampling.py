"""Choosing: each limit by its definition, frequencies by the probabilities, one number a draw."""

import numpy as np
import pytest
import torch

from sensorium.core.errors import CheckpointError, UsageError
from sensorium.generation.sampling import Sampling, _pick, candidates, choose, log_normaliser, penalised

V = 307


def scores(seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(V, generator=torch.Generator().manual_seed(seed))


def by_definition(logits: np.ndarray, sampling: Sampling) -> dict[int, float]:
    """Filters one after another over the whole vocabulary, in plain NumPy."""
    odds = np.exp(logits / sampling.temperature - np.max(logits / sampling.temperature))
    order = np.argsort(-odds, kind="stable")[: sampling.top_k]
    odds /= odds[order].sum()
    before = np.cumsum(odds[order]) - odds[order]
    order = order[before < sampling.top_p]
    order = order[odds[order] >= sampling.min_p * odds[order[0]]]
    return {int(one): float(odds[one] / odds[order].sum()) for one in order}


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"top_k": 11},
        {"top_k": 251},
        {"top_p": 0.7},
        {"top_p": 0.999},
        {"min_p": 0.05},
        {"min_p": 1e-5},
        {"top_k": 29, "top_p": 0.8, "min_p": 0.1},
        {"top_p": 0.95, "min_p": 0.02},
    ],
)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_candidates_are_those_of_the_definition(limits: dict, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, **limits)
    ids, odds = candidates(scores(), sampling)
    found = dict(zip(ids.tolist(), (odds / odds.sum()).tolist(), strict=True))
    wanted = by_definition(scores().double().numpy(), sampling)
    assert found.keys() == wanted.keys()
    assert max(abs(found[one] - wanted[one]) for one in wanted) < 1e-6


def test_draws_have_the_frequencies_of_the_probabilities() -> None:
    logits, sampling = torch.tensor([0.0, 1.0, -torch.inf, 2.0, 0.5]), Sampling(temperature=1.0)
    stream = torch.Generator().manual_seed(1)
    drawn = np.bincount([choose(logits, sampling, (), stream) for _ in range(4000)], minlength=5) / 4000
    np.testing.assert_allclose(drawn, torch.softmax(logits, 0).numpy(), atol=0.03)
    assert drawn[2] == 0


def test_one_number_is_drawn_whatever_the_limits() -> None:
    states = []
    for limits in ({}, {"top_k": 3}, {"top_p": 0.5}):
        stream = torch.Generator().manual_seed(1)
        choose(scores(), Sampling(temperature=1.0, **limits), (), stream)
        states.append(stream.get_state())
    assert all(torch.equal(states[0], state) for state in states)


def test_greedy_takes_the_greatest_and_draws_nothing() -> None:
    stream = torch.Generator().manual_seed(1)
    before = stream.get_state()
    assert choose(scores(), Sampling(), (), stream) == int(scores().argmax())
    assert torch.equal(stream.get_state(), before)


def test_cold_and_single_candidates_are_greedy() -> None:
    stream = torch.Generator()
    for sampling in (
        Sampling(temperature=1e-4),
        Sampling(temperature=5, top_k=1),
        Sampling(temperature=5, min_p=1),
    ):
        assert choose(scores(), sampling, (), stream) == int(scores().argmax())


def test_the_penalty_lowers_what_was_written_and_nothing_else() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0, -1.0])
    assert penalised(logits, [0, 1, 1], 2.0).tolist() == [1.0, -4.0, 1.0, -1.0]
    assert choose(logits, Sampling(repetition_penalty=3.0), [0], torch.Generator()) == 2


def test_log_normaliser() -> None:
    assert abs(log_normaliser(1e4 + scores()) - float((1e4 + scores()).double().logsumexp(0))) < 1e-2
    assert abs(log_normaliser(scores()) - float(scores().double().logsumexp(0))) < 1e-5


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.999999, 1.0])
def test_a_draw_among_many_is_where_the_running_sum_passes_it(draw: float) -> None:
    odds = scores().softmax(0).repeat(5) / 5
    odds[torch.rand(len(odds), generator=torch.Generator().manual_seed(2)) < 0.5] = 0
    sums = np.cumsum(odds.double().numpy())
    wanted = int(np.searchsorted(sums, draw * sums[-1], side="right"))
    assert _pick(odds, draw) == min(wanted, int(np.flatnonzero(odds.numpy())[-1]))


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-38, 1e-10, 1e-4])
@pytest.mark.parametrize("limits", [{}, {"top_p": 0.9}, {"top_k": 2}, {"min_p": 0.5}, {"top_p": 1e-300}])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e37])
def test_near_zero_temperature_is_greedy(temperature: float, limits: dict, scale: float) -> None:
    sampling = Sampling(temperature=temperature, **limits)
    logits = scale * torch.tensor([1.0, 30.0, -5.0, -torch.inf])
    assert choose(logits, sampling, (), torch.Generator().manual_seed(3)) == 1


@pytest.mark.parametrize("temperature", [1e-45, 0.7, 1e300])
def test_equal_scores_are_equally_likely(temperature: float) -> None:
    ids, odds = candidates(torch.full((5,), 3e38), Sampling(temperature=temperature, top_p=0.999))
    assert sorted(ids.tolist()) == [0, 1, 2, 3, 4]
    assert odds.tolist() == pytest.approx([0.2] * 5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("penalty", [1e-300, 1e-30, 1.3, 1e300])
def test_extreme_penalties_keep_scores_numbers(temperature: float, penalty: float) -> None:
    sampling = Sampling(temperature=temperature, repetition_penalty=penalty)
    logits = torch.tensor([2.0, 0.0, -3.0, -torch.inf, -3e38])
    changed = penalised(logits, [0, 1, 2, 3, 4], penalty)
    assert not changed.isnan().any()
    assert changed.isinf().tolist() == [False, False, False, True, False]
    assert choose(logits, sampling, [0, 1, 2, 3, 4], torch.Generator()) != 3


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1), Sampling(temperature=1, top_k=2)])
def test_scores_that_are_no_numbers_are_refused(sampling: Sampling) -> None:
    for wrong in (torch.nan, torch.inf):
        logits = torch.tensor([1.0, wrong, 2.0])
        with pytest.raises(CheckpointError, match="expected a number"):
            choose(logits, sampling, (), torch.Generator())
        with pytest.raises(CheckpointError, match="expected a number"):
            log_normaliser(logits)
    with pytest.raises(UsageError, match="all next ids are excluded"):
        choose(torch.full((3,), -torch.inf), sampling, (), torch.Generator())


@pytest.mark.parametrize("name", ["temperature", "repetition_penalty", "top_p", "min_p"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Sampling(**{name: value})
