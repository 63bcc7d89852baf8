"""Splits never part a group, do not move when rows are added, and meet the share in the mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.core.errors import UsageError
from sensorium.data.loading.split import split


@given(st.lists(st.text(max_size=3), max_size=29), st.floats(0, 0.99), st.integers(0, 2**40))
def test_groups_stay_together_and_rows_are_kept(groups, test, seed):
    parts = split(groups, test=test, seed=seed)
    assert sorted([*parts["train"], *parts["test"]]) == list(range(len(groups)))
    assert {groups[row] for row in parts["train"]}.isdisjoint(groups[row] for row in parts["test"])
    longer = split([*groups, "new", "newer"], test=test, seed=seed)
    assert np.isin(parts["test"], longer["test"]).all()
    assert np.isin(parts["train"], longer["train"]).all()


def test_the_share_is_met_and_seeds_differ():
    groups = [str(number) for number in range(5003)]
    first, second = (split(groups, test=0.2, seed=seed)["test"] for seed in (0, 1))
    assert abs(len(first) / 5003 - 0.2) < 0.02
    assert len(np.intersect1d(first, second)) < 0.06 * 5003


def test_a_share_out_of_range_is_refused():
    with pytest.raises(UsageError, match="test=1"):
        split(["a"], test=1.0, seed=0)
