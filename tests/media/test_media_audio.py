"""Sounds: every container gives the tone that was put in."""

import io

import numpy as np
import pytest
import soundfile
import specimens

from sensorium import media
from sensorium.core.errors import LimitError, MediaError

EXACT = {
    "wav": 2**-15,
    "wav24": 2**-23,
    "wav32": 1e-7,
    "wavfloat": 0,
    "wavdouble": 0,
    "flac": 2**-15,
    "aiff": 2**-15,
}
EXACT |= {
    "au": 2**-15,
    "caf": 2**-15,
    "rf64": 2**-15,
    "w64": 2**-15,
    "wav8": 2**-6,
    "wavulaw": 0.05,
}


@pytest.mark.parametrize("name", EXACT)
def test_lossless_formats_give_the_same_samples(name):
    audio, header = media.open(specimens.sound(name)), media.probe(specimens.sound(name))
    assert isinstance(audio, media.Audio)
    assert audio.samples.dtype == np.float32
    np.testing.assert_allclose(audio.samples, specimens.tone(), atol=EXACT[name] + 1e-9)
    assert (header.sample_rate_hz, header.num_channels, header.duration_s) == (16_000, 2, 1.0)


@pytest.mark.parametrize("name", ["ogg", "opus", "mp3"])
def test_lossy_formats_give_the_same_tone(name):
    audio = media.open(specimens.sound(name))
    assert abs(audio.duration_s - 1) < 0.08
    for channel, pitch_hz in enumerate((220, 440)):
        assert loudest_hz(audio.samples[:, channel], audio.sample_rate_hz) == pytest.approx(pitch_hz, abs=3)
        assert np.sqrt((audio.samples[:, channel] ** 2).mean()) == pytest.approx(0.354, abs=0.03)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("webm", "libvpx")]
)
def test_sound_of_a_movie(container, codec):
    data = specimens.movie(container, codec, num_frames=50, has_sound=True)
    video, header = media.open(data), media.probe(data)
    assert (header.kind, header.sample_rate_hz, header.num_channels) == ("video", 48_000, 2)
    assert video.audio.duration_s == pytest.approx(2.0, abs=0.1)
    assert loudest_hz(video.audio.samples[:, 1], 48_000) == pytest.approx(440, abs=3)


@pytest.mark.parametrize(
    "container", ["ipod", "mp4", "matroska", "webm", "adts", "aiff", "mp3", "flac", "ogg"]
)
def test_audio_only_containers_are_audio(container):
    codec = {"webm": "libopus", "aiff": "pcm_s16be", "mp3": "libmp3lame", "flac": "flac", "ogg": "libopus"}
    data = specimens.track(container, codec.get(container, "aac"))
    audio = media.open(data)
    assert isinstance(audio, media.Audio)
    assert media.probe(data).kind == "audio"
    assert audio.sample_rate_hz == 48_000
    assert loudest_hz(audio.samples[:, 0], 48_000) == pytest.approx(220, abs=3)


def test_mono_is_the_mean_at_another_rate():
    samples = specimens.tone(2.0, channels=1)
    both = np.concatenate([samples, -0.5 * samples], axis=1)
    audio = media.Audio(both, 16_000)
    np.testing.assert_allclose(audio.mono(16_000), samples[:, 0] / 4, atol=1e-7)
    down = audio.mono(8_000)
    expected = specimens.tone(2.0, channels=1, rate_hz=8_000)[:, 0] / 4
    assert down.shape == expected.shape
    np.testing.assert_allclose(down[200:-200], expected[200:-200], atol=1e-4)
    assert audio.mono(44_100).dtype == np.float32


def test_limits_on_sound():
    data = specimens.sound("wav")
    for limits, what in [
        (media.Limits(seconds=0.99), "seconds"),
        (media.Limits(channels=1), "channels"),
        (media.Limits(sample_rate_hz=15_999), "Hz"),
        (media.Limits(decoded_bytes=16_000 * 2 * 4 - 1), "decoded"),
    ]:
        with pytest.raises(LimitError, match=what):
            media.open(data, limits=limits)
    assert (
        len(media.open(data, limits=media.Limits(seconds=1, channels=2, decoded_bytes=128_000)).samples)
        == 16_000
    )


def test_limits_on_sound_in_containers():
    data = specimens.track("ipod", "aac")
    with pytest.raises(LimitError, match="seconds"):
        media.open(data, limits=media.Limits(seconds=0.5))
    with pytest.raises(LimitError, match="decoded"):
        media.open(data, limits=media.Limits(decoded_bytes=100_000))


def test_a_header_that_promises_too_much_gives_what_is_there():
    whole = specimens.sound("wav")
    audio = media.open(whole[:1044])
    assert audio.samples.shape == (250, 2)
    assert audio.samples.base is None or audio.samples.base.nbytes < 10_000


def test_cover_art_does_not_make_a_video():
    import av
    from PIL import Image

    out = io.BytesIO()
    with av.open(out, "w", format="mp3") as file:
        track = file.add_stream("libmp3lame", rate=48_000)
        cover = file.add_stream("png", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        file.mux(cover.encode(av.VideoFrame.from_image(Image.new("RGB", (32, 32)))))
        file.mux(cover.encode(None))
        specimens.add_sound(file, track, 1.0)
    assert isinstance(media.open(out.getvalue()), media.Audio)
    assert media.probe(out.getvalue()).kind == "audio"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_numbers_without_meaning_are_refused(value):
    samples = specimens.tone(0.1)
    samples[77, 1] = value
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(MediaError, match="finite"):
        media.open(out.getvalue())


def loudest_hz(samples: np.ndarray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 17))
    return spectrum.argmax() * rate_hz / (1 << 17)
