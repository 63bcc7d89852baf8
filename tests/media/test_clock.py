"""One clock a file: pictures, sound and cuts agree on when something is shown and heard."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from sensorium import media
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.frames import frames, frames_at, sound
from sensorium.video.reel import write_reel
from tiny_films import SOUND_HZ, beeps

ALL = media.Limits(video_frames=10_000)
RATE_HZ = 16_000


def film(
    container: str,
    codec: str = "libx264",
    *,
    num_frames: int = 50,
    sound_s: float | None = 0.0,
    picture_s: float = 0.0,
    b_frames: int = 2,
    gop: int = 25,
    stamps_ms: tuple[int, ...] = (),
) -> bytes:
    """Frame n is grey 4 n (mod 200) + 20 from `picture_s` on; sound from `sound_s` on, a beep after 1 s."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        picture = file.add_stream(codec, rate=25)
        picture.width, picture.height, picture.pix_fmt, picture.gop_size = 64, 48, "yuv420p", gop
        picture.codec_context.max_b_frames = b_frames
        if codec == "mpeg4":
            picture.codec_context.qmin, picture.codec_context.qmax = 1, 2
        if stamps_ms:
            picture.codec_context.time_base = picture.time_base = Fraction(1, 1000)
        track = None if sound_s is None else file.add_stream("aac", rate=SOUND_HZ, layout="mono")
        for number in range(num_frames):
            grey = np.full((48, 64, 3), 4 * number % 200 + 20, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey)
            frame.pts, frame.time_base = number + round(picture_s * 25), Fraction(1, 25)
            if stamps_ms:
                frame.pts, frame.time_base = stamps_ms[number], Fraction(1, 1000)
            file.mux(picture.encode(frame))
        file.mux(picture.encode(None))
        if track is not None:
            tone = beeps(num_frames / 25, [1.0], length_s=0.3)[:, 0]
            for start in range(0, len(tone), 1024):
                block = av.AudioFrame.from_ndarray(
                    tone[None, start : start + 1024], format="fltp", layout="mono"
                )
                block.sample_rate, block.time_base = SOUND_HZ, Fraction(1, SOUND_HZ)
                block.pts = start + round(sound_s * SOUND_HZ)
                file.mux(track.encode(block))
            file.mux(track.encode(None))
    return out.getvalue()


def onset_s(samples: np.ndarray, rate_hz: int) -> float:
    return float(np.argmax(np.abs(samples) > 0.3) / rate_hz)


def number_of(pixels: np.ndarray) -> int:
    """Which frame this is, of 50."""
    return round((float(pixels.mean()) - 20) / 4)


def near(numbers: list[int]):
    """Numbers but for what coding does to greys."""
    return pytest.approx(numbers, abs=1)


def joined(blocks) -> np.ndarray:
    return np.concatenate(list(blocks))


LATE = [(0.0, 3.0), (3.0, 0.0), (2.0, 3.0)]


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts", "flv"])
@pytest.mark.parametrize(("picture_s", "sound_s"), [(0.0, 0.0), *LATE])
def test_late_tracks_are_late_for_all(container, picture_s, sound_s, tmp_path):
    path = tmp_path / "film"
    path.write_bytes(film(container, picture_s=picture_s, sound_s=sound_s))
    first_s = min(picture_s, sound_s)
    shown_s, heard_s = picture_s - first_s, sound_s - first_s + 1.0

    for pixels, time_s in [(frame.pixels, frame.time_s) for frame in frames(path)]:
        assert time_s == pytest.approx(shown_s + number_of(pixels) / 25, abs=0.09)
    video = media.open(path, limits=ALL)
    for pixels, time_s in zip(video.frames, video.times_s, strict=True):
        assert time_s == pytest.approx(shown_s + number_of(pixels) / 25, abs=0.09)
    (frame,) = frames_at(path, [shown_s + 1.0])
    assert number_of(frame.pixels) == pytest.approx(25, abs=2)

    assert onset_s(video.audio.mono(RATE_HZ), RATE_HZ) == pytest.approx(heard_s, abs=0.06)
    assert onset_s(joined(audio_blocks(path)), RATE_HZ) == pytest.approx(heard_s, abs=0.06)
    blocks = list(sound(path, rate_hz=RATE_HZ))
    starts = np.cumsum([0, *(len(block.samples) for block in blocks)])[:-1] / RATE_HZ
    np.testing.assert_allclose([block.time_s for block in blocks], starts, atol=1e-9)
    assert onset_s(np.concatenate([block.samples for block in blocks]), RATE_HZ) == pytest.approx(
        heard_s, abs=0.06
    )

    ends_s = [frame.end_s for frame in frames(path)][-1], video.audio.duration_s
    assert media.probe(path).duration_s == pytest.approx(max(ends_s), abs=0.15)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_a_cut_has_the_sound_of_its_pictures(container, tmp_path):
    path, reel = tmp_path / "film", tmp_path / "reel.mp4"
    path.write_bytes(film(container, num_frames=200, sound_s=5.0))
    write_reel(path, [(0.5, 1.0), (5.8, 6.8)], reel)
    assert onset_s(joined(audio_blocks(reel)), RATE_HZ) == pytest.approx(0.5 + 0.2, abs=0.06)
    (frame,) = frames_at(reel, [0.7])
    assert number_of(frame.pixels) == pytest.approx(150 % 50, abs=2)


@pytest.mark.parametrize(
    ("codec", "b_frames"),
    [("libx264", 0), ("libx264", 2), ("libx264", 5), ("mpeg4", 0), ("mpeg4", 1), ("mpeg4", 2)],
)
def test_pictures_of_an_avi_come_in_turn(codec, b_frames, tmp_path):
    """It has no presentation stamps, and FFmpeg's guesses are wrong with B-frames."""
    path = tmp_path / "film.avi"
    path.write_bytes(film("avi", codec, num_frames=200, b_frames=b_frames, gop=12, sound_s=None))
    shown = list(frames(path))
    np.testing.assert_allclose([frame.time_s for frame in shown], np.arange(200) / 25, atol=1e-6)
    assert [number_of(frame.pixels) for frame in shown] == near([number % 50 for number in range(200)])
    for times_s in ([1.0], [0.1, 3.53, 7.9], [6.0, 6.04, 6.08]):
        found = list(frames_at(path, times_s))
        numbers = [int(time_s * 25 + 1e-6) for time_s in times_s]
        assert [frame.time_s for frame in found] == pytest.approx([number / 25 for number in numbers])
        assert [number_of(frame.pixels) for frame in found] == near([number % 50 for number in numbers])
    few = media.open(path, limits=media.Limits(video_frames=5))
    assert [number_of(pixels) for pixels in few.frames] == near([round(t * 25) % 50 for t in few.times_s])
    reel = tmp_path / "reel.mp4"
    write_reel(path, [(0.4, 0.6), (6.4, 6.6)], reel)
    assert [number_of(frame.pixels) for frame in frames_at(reel, [0.0, 0.2])] == near([10, 10])


@pytest.mark.parametrize("container", ["mpegts", "mpeg"])
def test_joined_streams_go_on(container):
    codec = {"mpegts": "libx264", "mpeg": "mpeg2video"}[container]
    has_sound = container == "mpegts"
    one = film(container, codec, sound_s=0.0 if has_sound else None)
    shown = list(frames(one + one))
    numbers = [number_of(frame.pixels) for frame in shown]
    assert numbers == pytest.approx([*range(50), *range(50)], abs=1)
    np.testing.assert_allclose(np.diff([frame.time_s for frame in shown]), 1 / 25, atol=0.03)
    video = media.open(one + one, limits=ALL)
    np.testing.assert_allclose(video.times_s, [frame.time_s for frame in shown], atol=0.05)
    assert number_of(next(frames_at(one + one, [3.0])).pixels) == pytest.approx(25, abs=2)
    assert media.probe(one + one).duration_s == pytest.approx(4.0, abs=0.12)
    if has_sound:
        heard = joined(audio_blocks(one + one))
        np.testing.assert_array_equal(len(heard), len(video.audio.mono(RATE_HZ)))
        assert onset_s(heard[2 * RATE_HZ :], RATE_HZ) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_stamps_may_be_uneven(container):
    stamps_ms = (0, 40, 80, 1000, 1040, 5000, 9000, 9040)
    data = film(container, num_frames=8, stamps_ms=stamps_ms, sound_s=None)
    np.testing.assert_allclose(
        [frame.time_s for frame in frames(data)], np.array(stamps_ms) / 1000, atol=2e-3
    )
    np.testing.assert_allclose(media.open(data).times_s, np.array(stamps_ms) / 1000, atol=2e-3)


@pytest.mark.parametrize("container", ["mp4", "avi", "mpegts", "matroska"])
def test_one_frame(container):
    data = film(container, num_frames=1, sound_s=None)
    (frame,) = frames(data)
    assert (frame.time_s, frame.end_s) == (0.0, pytest.approx(0.04, abs=1e-3))
    assert media.open(data).times_s.tolist() == [0.0]


def test_a_transport_stream_whose_counter_wraps():
    out = io.BytesIO()
    with av.open(io.BytesIO(film("mpegts"))) as read, av.open(out, "w", format="mpegts") as file:
        tracks = {track.index: file.add_stream_from_template(track) for track in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.pts, packet.dts = (stamp + (1 << 33) - 200_000 for stamp in (packet.pts, packet.dts))
                packet.stream = tracks[packet.stream.index]
                file.mux(packet)
    shown = list(frames(out.getvalue()))
    np.testing.assert_allclose(np.diff([frame.time_s for frame in shown]), 1 / 25, atol=1e-3)
    assert len(shown) == 50
    assert onset_s(joined(audio_blocks(out.getvalue())), RATE_HZ) == pytest.approx(1.0, abs=0.08)
