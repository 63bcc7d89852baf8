import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.evals import Interval, bootstrap_interval


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(101)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_width_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).random(997) < 0.3
    found = bootstrap_interval(values, num_resamples=4000)
    spread = 1.96 * np.sqrt(values.mean() * (1 - values.mean()) / 997)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - spread, abs=0.004)
    assert found.high == pytest.approx(values.mean() + spread, abs=0.004)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    stream = np.random.default_rng(1)
    found = [
        bootstrap_interval(stream.random(60) < 0.4, num_resamples=400, confidence=0.9, seed=i)
        for i in range(300)
    ]
    assert 0.84 < np.mean([one.low <= 0.4 <= one.high for one in found]) < 0.96


def test_copies_of_a_query_add_no_confidence_when_grouped() -> None:
    values = np.random.default_rng(2).random(53)
    once, groups = bootstrap_interval(values, seed=5), np.repeat(np.arange(53), 11)
    fivefold = bootstrap_interval(np.repeat(values, 11), groups=groups * 17 - 4, seed=5)
    assert fivefold.low == pytest.approx(once.low)
    assert fivefold.high == pytest.approx(once.high)
    apart = bootstrap_interval(np.repeat(values, 11), seed=5)
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_constant_values_have_no_width() -> None:
    assert bootstrap_interval(np.ones(7)) == Interval(1.0, 1.0, 1.0)


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        bootstrap_interval(np.zeros(0))
    with pytest.raises(UsageError, match=r"confidence=95"):
        bootstrap_interval(np.ones(3), confidence=95.0)
