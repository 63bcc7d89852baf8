"""The online aligner against the offline path of all that was heard, and against warps that are known."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.align import OnlineAligner, dtw
from sensorium.core.errors import UsageError


def walk(length: int, width: int, number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((length, width)).cumsum(0)


def played(reference: np.ndarray, places: np.ndarray, noise: float, number: int) -> np.ndarray:
    """The reference as performed: these frames, in noise."""
    heard = reference[places]
    return heard + noise * np.random.default_rng(number).standard_normal(heard.shape)


def drifting(length: int) -> np.ndarray:
    """Places of a performance that hurries, drags and pauses."""
    time = np.arange(2 * length)
    speed = np.exp(0.5 * np.sin(time / 41)) * (time % 97 > 10)
    places = np.floor(np.cumsum(speed)).astype(int)
    return places[places < length]


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cityblock", "cosine"])
def test_each_place_is_the_end_of_the_offline_path(metric: str) -> None:
    reference = walk(29, 3, 1)
    stream = played(reference, drifting(29), 0.5, 2)
    places = OnlineAligner(reference, metric=metric).push(stream)
    for heard in range(1, len(stream) + 1):
        ends = dtw(stream[:heard], reference, metric=metric, step="asymmetric", open_end=True).path[:, 1]
        assert places[heard - 1] == max(ends[-1], places[heard - 2] if heard > 1 else 0)


@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(0, 19), min_size=1, max_size=9), st.integers(4, 61), st.integers(1, 3))
def test_pieces_are_as_the_whole(sizes: list[int], width: int, max_step: int) -> None:
    reference, stream = walk(53, 2, 3), walk(sum(sizes), 2, 4)
    whole = OnlineAligner(reference, width=width, max_step=max_step)
    places = whole.push(stream)
    pieces = OnlineAligner(reference, width=width, max_step=max_step)
    edges = np.cumsum(sizes)[:-1]
    found = [pieces.push(part) for part in np.split(stream, edges)]
    assert np.concatenate(found).tolist() == places.tolist()
    assert (pieces.position, pieces.mean_cost) == pytest.approx(
        (whole.position, whole.mean_cost), nan_ok=True
    )
    assert (np.diff(places) >= 0).all()


@pytest.mark.parametrize("width", [64, 4096])
def test_known_warps_are_followed(width: int) -> None:
    reference = walk(997, 5, 5)
    places = drifting(997)
    aligner = OnlineAligner(reference, width=width)
    assert not aligner.is_finished
    wrong = np.abs(aligner.push(played(reference, places, 1.0, 6)) - places)
    assert wrong.mean() < 2
    assert wrong.max() < 15
    assert aligner.mean_cost == pytest.approx(np.sqrt(5), rel=0.2)  # of the noise alone
    aligner.push(np.repeat(reference[-1:], 5, axis=0))
    assert aligner.is_finished


def test_a_slower_stream_than_the_window_can_bear_is_not_lost() -> None:
    """It waits for as long as the stream pauses, and is right again when it goes on."""
    reference = walk(301, 4, 7)
    places = np.concatenate([np.arange(150), np.full(500, 149), np.arange(150, 301)])
    found = OnlineAligner(reference, width=16).push(played(reference, places, 0.1, 8))
    assert np.abs(found - places).max() <= 1


def test_greatest_speed() -> None:
    reference = walk(211, 4, 9)
    fast = reference[::3]
    assert OnlineAligner(reference, max_step=3).push(fast)[-1] == 210
    assert OnlineAligner(reference, max_step=2).push(fast)[-1] <= 2 * (len(fast) - 1)


def test_memory_does_not_grow() -> None:
    aligner = OnlineAligner(walk(97, 2, 10), width=16)

    def held() -> int:
        return sum(value.nbytes for value in vars(aligner).values() if isinstance(value, np.ndarray))

    before = held()
    for number in range(5):
        aligner.push(walk(101, 2, number))
        assert held() == before
    assert not [value for value in vars(aligner).values() if isinstance(value, list | dict)]


def test_nothing_is_heard_of_a_push_that_is_refused() -> None:
    reference = walk(23, 2, 11) + 50
    aligner, other = OnlineAligner(reference, metric="cosine"), OnlineAligner(reference, metric="cosine")
    aligner.push(reference[:5])
    with pytest.raises(UsageError, match="all zeros"):
        aligner.push(np.concatenate([reference[5:7], np.zeros((1, 2))]))
    assert aligner.num_frames == 5
    assert aligner.push(reference[5:]).tolist() == other.push(reference)[5:].tolist()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: OnlineAligner([]), "reference has shape (0,)"),
        (lambda: OnlineAligner([0.0, float("nan")]), "reference[1] is not finite"),
        (lambda: OnlineAligner([0.0, 1.0], width=3), "width=3"),
        (lambda: OnlineAligner([0.0, 1.0], max_step=0), "max_step=0"),
        (lambda: OnlineAligner([0.0, 1.0], metric="precomputed"), "precomputed"),
        (lambda: OnlineAligner([0.0, 1.0], metric="euclid"), "euclid"),
        (lambda: OnlineAligner(np.ones((5, 2))).push(np.ones((3, 1))), "width 1, the reference 2"),
        (lambda: OnlineAligner([0.0, 1.0]).push([float("inf")]), "frames[0] is not finite"),
    ],
)
def test_mistakes_are_told_in_one_line(call: Callable[[], object], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
