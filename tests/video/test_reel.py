"""Reels: the right pictures with the right sound, in step, whole or absent."""

from pathlib import Path

import av
import numpy as np
import pytest

from sensorium.core.errors import MediaError, UsageError
from sensorium.media.frames import frames, sound
from sensorium.video.reel import write_reel
from tiny_films import beeps, black, scene, write_film

SIZE = (64, 36)


def flashes(duration_s: float, at_s: list[float], rate: int = 25) -> np.ndarray:
    """Black but for four white frames at each time."""
    film = black(round(duration_s * rate), SIZE)
    for start_s in at_s:
        film[round(start_s * rate) : round(start_s * rate) + 4] = 255
    return film


def onsets(times_s: np.ndarray, is_on: np.ndarray) -> np.ndarray:
    return times_s[np.flatnonzero(is_on & ~np.concatenate([[False], is_on[:-1]]))]


def seen_and_heard(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """When white frames and when tones begin."""
    stream = [(frame.time_s, frame.pixels.mean() > 128) for frame in frames(path)]
    samples = np.concatenate([block.samples for block in sound(path, rate_hz=16_000)])
    level = np.sqrt(np.convolve(samples**2, np.ones(80) / 80, "same"))
    seen = onsets(np.array([time_s for time_s, _ in stream]), np.array([is_on for _, is_on in stream]))
    return seen, onsets(np.arange(len(level)) / 16_000, level > 0.15)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_sound_and_picture_do_not_drift_apart(tmp_path, suffix):
    at_s = [float(second) + 0.2 for second in range(0, 40, 1)]
    film = write_film(tmp_path / f"film.{suffix}", flashes(40, at_s), sound=beeps(40, at_s))
    stretches = [(0.08, 3.4), (9.0, 11.28), (12.04, 13.92), (31.56, 39.96)]
    reel = write_reel(film, stretches, tmp_path / "reel.mp4", titles=["a", "b", "c", "d"])
    seen, heard = seen_and_heard(tmp_path / "reel.mp4")
    expected, offset_s = [], 0.0
    for start_s, end_s in stretches:
        expected += [offset_s + t - start_s for t in at_s if start_s <= t < end_s - 0.03]
        offset_s += end_s - start_s
    assert len(seen) == len(heard) == len(expected) == 17
    np.testing.assert_allclose(seen, expected, atol=0.021)
    assert np.abs(seen - heard).max() <= 0.04
    assert reel.duration_s == pytest.approx(15.88)
    assert reel.has_sound
    with av.open(str(tmp_path / "reel.mp4")) as file:
        lengths = [
            float(stream.duration * stream.time_base)
            for stream in (file.streams.video[0], file.streams.audio[0])
        ]
        assert [mark["metadata"]["title"] for mark in file.chapters()] == ["a", "b", "c", "d"]
    np.testing.assert_allclose(lengths, 15.88, atol=0.06)


def test_variable_rates_and_odd_sizes_are_kept_in_time(tmp_path):
    stamps = [*range(0, 1000, 40), 1400, 2900, 3000, 3010, *range(5000, 7000, 100)]
    film = np.concatenate([scene(n, 1, (63, 35)) for n in range(len(stamps))])
    path = write_film(tmp_path / "film.mkv", film, stamps_ms=stamps)
    reel = write_reel(path, [(0.5, 2.95), (4.0, 6.05)], tmp_path / "reel.mp4")
    made = list(frames(reel.path))
    assert made[0].pixels.shape == (34, 62, 3)
    wanted = [0.0, *(t / 1000 - 0.5 for t in stamps if 500 < t < 2950)]
    wanted += [2.45, *(2.45 + t / 1000 - 4.0 for t in stamps if 4000 < t < 6050)]
    np.testing.assert_allclose([frame.time_s for frame in made][: len(wanted)], wanted, atol=2e-3)
    assert not reel.has_sound
    # The picture on screen when a stretch begins is its first: frame 28 was shown from 3.01 s to 5 s.
    first = made[wanted.index(2.45)].pixels.astype(int)
    assert int(np.abs(film[:, :34, :62] - first).mean(axis=(1, 2, 3)).argmin()) == 28


@pytest.mark.parametrize("rotation", [90, 180])
def test_the_reel_is_stored_upright(tmp_path, rotation):
    path = write_film(tmp_path / "film.mp4", scene(1, 29, SIZE), rotation=rotation)
    upright = next(frames(path)).pixels.astype(int)
    made = next(frames(write_reel(path, [(0.0, 0.9)], tmp_path / "reel.mp4").path)).pixels
    assert made.shape == upright.shape
    assert np.abs(made - upright).mean() < 6


def test_large_videos_are_made_smaller(tmp_path):
    path = write_film(tmp_path / "film.mp4", scene(1, 5, (320, 180)))
    made = next(frames(write_reel(path, [(0.0, 0.2)], tmp_path / "reel.mp4", max_px=90).path)).pixels
    assert made.shape == (90, 160, 3)


def test_a_film_of_one_frame_and_stretches_beyond_its_end(tmp_path):
    path = write_film(tmp_path / "film.mp4", scene(1, 1, SIZE))
    assert write_reel(path, [(0.0, 0.04)], tmp_path / "reel.mp4").num_frames == 1
    film = write_film(tmp_path / "two.mp4", scene(1, 50, SIZE), sound=beeps(1.0, [0.5]))
    write_reel(film, [(1.5, 3.0)], tmp_path / "reel.mp4")
    made, heard = list(frames(tmp_path / "reel.mp4")), list(sound(tmp_path / "reel.mp4"))
    assert made[-1].end_s == pytest.approx(1.5, abs=0.05)
    assert np.abs(np.concatenate([block.samples for block in heard])).max() < 0.01


def test_a_file_that_breaks_off_gives_what_there_is(tmp_path):
    whole = write_film(tmp_path / "whole.mkv", scene(1, 200, SIZE), sound=beeps(8, [1.0]))
    content = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    last_s = list(frames(tmp_path / "cut.mkv"))[-1].time_s
    reel = write_reel(tmp_path / "cut.mkv", [(0.0, 1.0), (last_s - 0.5, last_s)], tmp_path / "reel.mp4")
    assert list(frames(reel.path))[-1].end_s == pytest.approx(1.5, abs=0.06)


@pytest.mark.parametrize("stretches", [[], [(1.0, 1.0)], [(1.0, 2.0), (1.5, 3.0)]])
def test_stretches_out_of_order_are_refused(tmp_path, stretches):
    with pytest.raises(UsageError, match="in order"):
        write_reel(tmp_path / "none.mp4", stretches, tmp_path / "reel.mp4")


def test_an_interrupted_reel_leaves_nothing_and_keeps_the_old_one(tmp_path):
    path = write_film(tmp_path / "film.mp4", scene(1, 75, SIZE))
    target = tmp_path / "out" / "reel.mp4"
    target.parent.mkdir()
    target.write_bytes(b"old")

    def interrupt(done, total, message):
        if done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_reel(path, [(0.0, 3.0)], target, progress=interrupt)
    assert [file.name for file in target.parent.iterdir()] == ["reel.mp4"]
    assert target.read_bytes() == b"old"
    with pytest.raises(MediaError):
        write_reel(target, [(0.0, 3.0)], target)
    assert target.read_bytes() == b"old"
