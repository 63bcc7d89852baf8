"""Shots: known cuts, dissolves and fades are found; flashes, pans, noise and light are none."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import UsageError
from sensorium.video.shots import Shot, ShotDetector, ShotOptions
from tiny_films import black, dissolve, scene

SIZE = (48, 27)


def cuts_of(frames: np.ndarray, times_s: np.ndarray | None = None, options: ShotOptions | None = None):
    """Inner cuts; checks that the shots cover the film."""
    times_s = np.arange(len(frames)) / 25 if times_s is None else times_s
    detector = ShotDetector(options)
    for time_s, pixels in zip(times_s.tolist(), frames, strict=True):
        detector.add(time_s, pixels)
    end_s = float(times_s[-1]) + 0.04
    shots = detector.finish(end_s)
    assert shots[0].start_s == times_s[0]
    assert shots[-1].end_s == end_s
    assert all(a.end_s == b.start_s and a.duration_s > 0 for a, b in pairwise(shots))
    return [shot.start_s for shot in shots[1:]]


@pytest.mark.parametrize("seed", range(5))
def test_hard_cuts_are_found_to_the_frame(seed):
    lengths = [37, 53, 13, 71, 29]
    film = np.concatenate([scene(10 * seed + n, length, SIZE) for n, length in enumerate(lengths)])
    np.testing.assert_allclose(cuts_of(film), np.cumsum(lengths)[:-1] / 25)


@pytest.mark.parametrize("length", [7, 13, 23])
def test_a_dissolve_is_one_cut_in_its_middle(length):
    first, second = scene(1, 61, SIZE), scene(2, 67, SIZE)
    (cut,) = cuts_of(dissolve(first, second, length))
    assert cut == pytest.approx((61 - length / 2) / 25, abs=0.3)


@pytest.mark.parametrize("dark", [0, 5, 19])
def test_a_fade_through_black_is_one_cut(dark):
    first = dissolve(scene(3, 59, SIZE), black(17, SIZE), 17)
    second = dissolve(black(17, SIZE), scene(4, 59, SIZE), 17)
    film = np.concatenate([first, black(dark, SIZE), second])
    (cut,) = cuts_of(film)
    assert (59 - 17) / 25 <= cut <= (59 + dark + 17) / 25


def test_what_is_no_cut():
    still = scene(5, 101, SIZE)
    flash = still.copy()
    flash[50] = 255
    flash[70:72] = np.clip(flash[70:72].astype(int) + 120, 0, 255)
    light = np.clip(still * np.linspace(0.5, 1.3, 101)[:, None, None, None], 0, 255).astype(np.uint8)
    for film in (still, flash, light, scene(6, 101, SIZE, speed=0.9), scene(7, 101, SIZE, noise=25)):
        assert cuts_of(film) == []


def test_a_frozen_picture_and_one_frame_are_one_shot():
    assert cuts_of(np.repeat(scene(8, 1, SIZE), 53, axis=0)) == []
    detector = ShotDetector()
    assert detector.finish(3.0) == []
    detector.add(0.0, scene(8, 1, SIZE)[0])
    assert detector.finish(0.5) == [Shot(0.0, 0.5)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 2.5))
def test_times_decide_not_frame_numbers(seed, factor):
    """The same cut at a variable rate, and a film that starts late."""
    rng = np.random.default_rng(seed)
    times_s = 5 + np.cumsum(rng.uniform(0.02, 0.06, 90)) * factor
    film = np.concatenate([scene(seed, 41, SIZE), scene(seed + 1, 49, SIZE)])
    found = cuts_of(film, times_s)
    assert found == [pytest.approx(times_s[41])]


def test_cuts_that_are_too_close_are_one():
    film = np.concatenate([scene(1, 40, SIZE), scene(2, 10, SIZE), scene(3, 40, SIZE)])
    assert len(cuts_of(film)) == 2
    assert len(cuts_of(film, options=ShotOptions(min_shot_s=0.6))) == 1


def test_frames_out_of_order_are_refused():
    detector = ShotDetector()
    detector.add(1.0, scene(1, 1, SIZE)[0])
    with pytest.raises(UsageError, match="in order"):
        detector.add(1.0, scene(1, 1, SIZE)[0])
