"""Videos and animations: the right frames at the right times, upright."""

import numpy as np
import pytest
import specimens
from PIL import Image

from sensorium import media
from sensorium.core.errors import LimitError, MediaError
from sensorium.media.orientation import from_matrix
from sensorium.media.video import fit, spread

CONTAINERS = [
    ("mp4", "libx264"),
    ("mov", "libx264"),
    ("webm", "libvpx-vp9"),
    ("matroska", "ffv1"),
    ("avi", "mpeg4"),
]
CONTAINERS += [("mpegts", "libx264"), ("flv", "flv1")]
ALL = media.Limits(video_frames=1000)


def greys(video: media.Video) -> np.ndarray:
    return video.frames.mean(axis=(1, 2, 3))


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_every_frame_comes_in_order(container, codec):
    data = specimens.movie(container, codec, num_frames=29)
    video, header = media.open(data, limits=ALL), media.probe(data)
    assert (header.kind, header.width_px, header.height_px) == ("video", 64, 48)
    assert video.frames.shape == (29, 48, 64, 3)
    assert np.abs(greys(video) - np.arange(29) * 8).max() < 12
    np.testing.assert_allclose(np.diff(video.times_s), 1 / 25, atol=2e-3)
    assert video.times_s[0] == pytest.approx(0, abs=0.09)
    assert video.audio is None


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
@pytest.mark.parametrize("num_kept", [1, 2, 7, 31])
def test_kept_frames_are_those_of_the_whole(container, codec, num_kept):
    """Seeking must not change which frames are given."""
    data = specimens.movie(container, codec, num_frames=203, gop=7)
    whole = media.open(data, limits=ALL)
    some = media.open(data, limits=media.Limits(video_frames=num_kept))
    assert len(some.frames) == num_kept
    places = np.searchsorted(whole.times_s, some.times_s - 1e-4)
    np.testing.assert_allclose(whole.times_s[places], some.times_s, atol=1e-6)
    np.testing.assert_array_equal(whole.frames[places], some.frames)
    middles = (np.arange(num_kept) + 0.5) * 203 / 25 / num_kept
    assert np.abs(some.times_s - middles).max() < 0.15


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_variable_frame_rate(container):
    stamps = (0, 40, 80, 1000, 1040, 5000, 9000, 9040)
    data = specimens.movie(container, "libx264", num_frames=8, stamps=stamps)
    video = media.open(data)
    np.testing.assert_allclose(video.times_s, np.array(stamps) / 1000, atol=2e-3)
    few = media.open(data, limits=media.Limits(video_frames=3))
    # Shown at 1.5 s, 4.5 s and 7.5 s: the frames that began at 1.04 s (twice) and 5 s.
    np.testing.assert_allclose(few.times_s, [1.04, 5.0], atol=2e-3)


@pytest.mark.parametrize("size", [(37, 23), (1, 1), (3, 200), (64, 1)])
def test_odd_sizes(size):
    data = specimens.movie("matroska", "ffv1", num_frames=5, width=size[0], height=size[1])
    video = media.open(data)
    assert video.frames.shape == (5, size[1], size[0], 3)
    assert np.abs(greys(video) - np.arange(5) * 8).max() < 2


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_flags(degrees):
    data = specimens.marked_movie(degrees)
    video, header = media.open(data), media.probe(data)
    upright = np.rot90(specimens.MARK, degrees // 90)
    assert video.frames[0].shape[:2] == upright.shape[:2]
    assert np.abs(video.frames[0].astype(int) - upright).mean() < 12
    assert (header.height_px, header.width_px) == upright.shape[:2]


@pytest.mark.parametrize(
    ("aspect", "width"), [((16, 11), 93), ((1, 2), 32), ((1, 65_535), 64), ((900, 1), 64)]
)
def test_pixels_that_are_not_square_are_made_so(aspect, width):
    data = specimens.movie("matroska", "libx264", num_frames=2, aspect=aspect)
    header, video = media.probe(data), media.open(data)
    assert video.frames.shape == (2, 48, width, 3)
    assert (header.width_px, header.height_px) == (width, 48)


def test_display_matrices():
    one = 1 << 16
    for matrix, expected in {
        (one, 0, 0, one): lambda a: a,
        (0, one, -one, 0): lambda a: np.rot90(a, -1),
        (-one, 0, 0, -one): lambda a: np.rot90(a, 2),
        (0, -one, one, 0): lambda a: np.rot90(a, 1),
        (-one, 0, 0, one): np.fliplr,
        (one, 0, 0, -one): np.flipud,
    }.items():
        a, b, c, d = matrix
        packed = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()
        np.testing.assert_array_equal(from_matrix(packed).apply(specimens.MARK), expected(specimens.MARK))
    assert from_matrix(b"").apply(specimens.MARK).shape == specimens.MARK.shape


def test_target_bounds_the_short_side():
    data = specimens.movie("mp4", "libx264", width=320, height=180)
    assert media.open(data, target_px=90).frames.shape[1:] == (90, 160, 3)
    assert media.open(data, target_px=1000).frames.shape[1:] == (180, 320, 3)
    gif = specimens.animation("gif")
    assert media.open(gif, target_px=10).frames.shape[1:3] == (10, 13)
    assert fit((7, 9000), 3) == (3, 3857)


def test_limits_on_video():
    data = specimens.movie("mp4", "libx264")
    for limits, what in [
        (media.Limits(pixels=64 * 48 - 1), "pixels"),
        (media.Limits(frames=29), "frames"),
        (media.Limits(seconds=1.1), "seconds"),
        (media.Limits(decoded_bytes=30 * 64 * 48 * 3 - 1), "decoded"),
    ]:
        with pytest.raises(LimitError, match=what):
            media.open(data, limits=limits)


def test_a_sound_track_that_does_not_fit_is_mixed_down():
    data = specimens.movie("mp4", "libx264", num_frames=100, has_sound=True)
    frames_bytes = 32 * 64 * 48 * 3
    whole = media.open(data)
    assert whole.audio.samples.shape[1] == 2
    less = media.open(data, limits=media.Limits(decoded_bytes=frames_bytes + 300_000))
    assert (less.audio.sample_rate_hz, less.audio.samples.shape[1]) == (16_000, 1)
    assert less.audio.duration_s == pytest.approx(whole.audio.duration_s, abs=0.05)
    with pytest.raises(LimitError):
        media.open(data, limits=media.Limits(decoded_bytes=frames_bytes + 100_000))


@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "libx264"), ("mpegts", "libx264"), ("avi", "mpeg4")]
)
@pytest.mark.parametrize("part", [0.35, 0.6, 0.9])
def test_truncated_videos_keep_what_decodes(container, codec, part):
    data = specimens.movie(container, codec, num_frames=203, gop=7)
    try:
        video = media.open(data[: int(len(data) * part)], limits=ALL)
    except MediaError as error:
        assert "damaged" in str(error) or "decoded" in str(error)  # noqa: PT017
    else:
        assert 0 < len(video.frames) <= 203
        assert (np.diff(video.times_s) > 0).all()


@pytest.mark.parametrize("name", ["gif", "webp", "apng", "avif"])
def test_animations_are_videos(name):
    data = specimens.animation(name)
    video, header = media.open(data), media.probe(data)
    assert isinstance(video, media.Video)
    assert (header.kind, header.width_px, header.height_px, header.num_frames) == ("video", 37, 29, 12)
    assert video.frames.shape == (12, 29, 37, 3)
    assert header.duration_s == pytest.approx(0.84)
    np.testing.assert_allclose(video.times_s, np.arange(12) * 0.07, atol=1e-9)
    expected = np.stack([specimens.photo(37, 29, seed) for seed in range(12)])
    error = np.abs(video.frames.astype(int) - expected).mean()
    assert error < {"gif": 12, "webp": 12, "apng": 1e-9, "avif": 12}[name]
    few = media.open(data, limits=media.Limits(video_frames=5))
    np.testing.assert_array_equal(
        few.frames, video.frames[np.searchsorted(video.times_s, few.times_s - 1e-9)]
    )


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_one_frame_is_an_image(name):
    data = specimens.encode(Image.fromarray(specimens.photo(37, 29)), name, save_all=True)
    assert isinstance(media.open(data), media.Image)
    assert media.probe(data).kind == "image"


def test_transparent_animation_is_laid_onto_white():
    frames = [Image.new("RGBA", (9, 7), (200, 0, 0, alpha)) for alpha in (0, 128, 255)]
    for name in ("PNG", "WEBP"):
        data = specimens.encode(
            frames[0], name, save_all=True, append_images=frames[1:], duration=100, lossless=True
        )
        greens = media.open(data).frames[:, 3, 3, 1].astype(int)
        assert np.abs(greens - [255, 127, 0]).max() <= 1


def test_default_picture_of_an_animated_png_is_no_frame():
    frames = [Image.new("RGB", (5, 3), (shade, 0, 0)) for shade in (10, 20, 30)]
    data = specimens.encode(
        frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True, duration=90
    )
    assert media.open(data).frames[:, 0, 0, 0].tolist() == [20, 30]


def test_animation_limits():
    data = specimens.animation("gif")
    with pytest.raises(LimitError, match="over all frames"):
        media.open(data, limits=media.Limits(animation_pixels=12 * 37 * 29 - 1))
    with pytest.raises(LimitError, match="frames"):
        media.probe(data, limits=media.Limits(frames=11))
    with pytest.raises(LimitError, match="seconds"):
        media.open(data, limits=media.Limits(seconds=0.8))


def test_spread_covers_time_evenly():
    times = np.array([0.0, 0.1, 0.2, 0.3, 9.0])
    assert spread(times, 10.0, 5).tolist() == [0, 1, 2, 3, 4]
    assert spread(times, 10.0, 2).tolist() == [3]
    assert spread(np.arange(100) / 10, 10.0, 4).tolist() == [12, 37, 62, 87]
    for count in (1, 3, 17, 99):
        chosen = spread(np.arange(100.0), 100.0, count)
        assert len(chosen) == count
        assert np.ptp(np.diff(chosen)) <= 1 if count > 1 else True
