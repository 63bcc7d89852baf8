"""Videos as a stream: the frames of `open`, all of them, and sound that stays in step."""

import io

import numpy as np
import pytest
import specimens
from test_media_video import ALL, CONTAINERS

from sensorium import media
from sensorium.core.errors import LimitError, MediaError, NotFoundError
from sensorium.media.frames import STREAM_LIMITS, frames, frames_at, sound
from tiny_films import SOUND_HZ, beeps, scene, write_film


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_the_stream_is_what_open_gives(container, codec):
    data = specimens.movie(container, codec, num_frames=31)
    video, stream = media.open(data, limits=ALL), list(frames(data))
    np.testing.assert_allclose([frame.time_s for frame in stream], video.times_s, atol=1e-6)
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in stream]), video.frames)
    assert all(frame.end_s > frame.time_s for frame in stream)


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_frames_at_are_those_shown_then(container, codec):
    data = specimens.movie(container, codec, num_frames=97, gop=7)
    stream = list(frames(data))
    wanted = [1.013, 0.0, 3.5, 3.51, 99.0]
    starts = np.array([frame.time_s for frame in stream])
    numbers = sorted(
        {int(np.searchsorted(starts, time_s, side="right")) - 1 for time_s in wanted} - {-1} | {0}
    )
    found = list(frames_at(data, wanted))
    np.testing.assert_allclose([frame.time_s for frame in found], starts[numbers], atol=1e-6)
    for frame, number in zip(found, numbers, strict=True):
        np.testing.assert_array_equal(frame.pixels, stream[number].pixels)


def test_variable_rate_and_the_end_of_the_last_frame():
    stamps = (0, 40, 80, 1000, 1040, 5000, 9000, 9040)
    data = specimens.movie("mp4", "libx264", num_frames=8, stamps=stamps)
    stream = list(frames(data, size=(5, 3)))
    np.testing.assert_allclose([frame.time_s for frame in stream], np.array(stamps) / 1000, atol=2e-3)
    assert stream[0].pixels.shape == (3, 5, 3)
    assert 9.04 < stream[-1].end_s < 15


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_upright(degrees):
    data = specimens.marked_movie(degrees)
    upright = np.rot90(specimens.MARK, degrees // 90)
    whole, small = next(frames(data)).pixels, next(frames(data, size=(9, 7))).pixels
    assert np.abs(whole.astype(int) - upright).mean() < 12
    assert small.shape == (7, 9, 3)


@pytest.mark.parametrize("part", [0.35, 0.7])
def test_a_file_that_breaks_off_ends_there(part):
    data = specimens.movie("matroska", "libx264", num_frames=203, gop=7)
    stream = list(frames(data[: int(len(data) * part)]))
    assert 0 < len(stream) < 203
    assert list(frames_at(data[: int(len(data) * part)], [0.5]))


def test_what_is_no_video_is_refused(tmp_path):
    for data, what in [
        (specimens.sound("wav"), "wav, not a video"),
        (specimens.track("mp4", "aac"), "without a moving picture"),
        (specimens.picture("png"), "not a video"),
        (specimens.movie("matroska", "libx264")[:700], "damaged|not one frame|no pixels"),
    ]:
        with pytest.raises(MediaError, match=what):
            list(frames(data))
    with pytest.raises(NotFoundError):
        list(frames(tmp_path / "none.mp4"))
    with pytest.raises(LimitError, match="frames"):
        list(frames(specimens.movie("mp4", "libx264"), limits=media.Limits(frames=29)))


def test_the_file_is_closed_when_the_reader_stops_early(tmp_path):
    path = write_film(tmp_path / "film.mp4", scene(1, 31))
    file = io.BytesIO(path.read_bytes())
    stream = frames(file, limits=STREAM_LIMITS)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_sound_is_in_step_and_without_holes(tmp_path):
    path = write_film(tmp_path / "film.mp4", scene(1, 75), sound=beeps(3, [0.5, 2.0]))
    blocks = list(sound(path, rate_hz=8000))
    samples = np.concatenate([block.samples for block in blocks])
    starts = np.cumsum([0, *(len(block.samples) for block in blocks)])[:-1] / 8000
    np.testing.assert_allclose([block.time_s for block in blocks], starts, atol=1e-6)
    loud = np.flatnonzero(np.abs(samples) > 0.2) / 8000
    assert loud[0] == pytest.approx(0.5, abs=0.03)
    assert loud[loud > 1.5][0] == pytest.approx(2.0, abs=0.03)
    assert len(samples) / 8000 == pytest.approx(3, abs=0.06)
    assert list(sound(write_film(tmp_path / "mute.mp4", scene(1, 5)))) == []
    assert SOUND_HZ == 48_000
