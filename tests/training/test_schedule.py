"""Learning rate: closed forms at the joints."""

import math
from itertools import pairwise

import pytest

from sensorium.core.errors import ConfigError
from sensorium.training.optim import learning_rate


def test_values_at_the_joints() -> None:
    rates = [learning_rate(step, peak=2.0, warmup=4, total=15, floor=0.5) for step in range(15)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert math.isclose(rates[9], 1.25)  # half way from step 4 to step 14
    assert math.isclose(rates[14], 0.5)
    assert all(a >= b for a, b in pairwise(rates[4:]))


def test_no_warmup_and_one_step() -> None:
    assert learning_rate(0, peak=3.0, warmup=0, total=1) == 3.0


def test_a_warmup_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="warmup=9 is longer than the run of 5 steps"):
        learning_rate(0, peak=1.0, warmup=9, total=5)
