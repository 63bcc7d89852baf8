"""Sounds whose header does not tell their length, or not truly, and those that change midway."""

import io
import struct

import av
import numpy as np
import pytest
import soundfile
import specimens

from sensorium import media
from sensorium.core.errors import LimitError, MediaError
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.container_header import links
from sensorium.media.declared_length import has_correct_length
from sensorium.media.limits import Limits
from sensorium.media.source import opened

RATE_HZ = 8000
TONE = specimens.tone(1.0, channels=1, rate_hz=RATE_HZ)
PCM = (TONE * 32767).astype("<i2").tobytes()
INFO = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"


def encoded(container: str, codec: str, samples: np.ndarray = TONE, rate_hz: int = RATE_HZ) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate_hz, format=container, subtype=codec)
    return out.getvalue()


def wav(data: int, riff: int = 0, before: bytes = b"", pcm: bytes = PCM, after: bytes = b"") -> bytes:
    """A WAV that says it has `data` bytes of samples and `riff` in all."""
    form = struct.pack("<HHIIHH", 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + struct.pack("<I", 16) + form + before
    return head + b"data" + struct.pack("<I", data) + pcm + after


def with_bytes(whole: bytes, at: int, new: bytes) -> bytes:
    return whole[:at] + new + whole[at + len(new) :]


def unfinished() -> dict[str, bytes]:
    """One second each, with a length of 0, -1 or too much in the header."""
    rf64, w64, aiff = encoded("RF64", "PCM_16"), encoded("W64", "PCM_16"), encoded("AIFF", "PCM_16")
    caf, au, flac = encoded("CAF", "PCM_16"), encoded("AU", "PCM_16"), encoded("FLAC", "PCM_16")
    ds64, w64_data = rf64.find(b"ds64") + 8, w64.find(b"data\xf3\xac") + 16
    comm, ssnd, caf_data = aiff.find(b"COMM") + 10, aiff.find(b"SSND") + 4, caf.find(b"data") + 4
    no_frames = with_bytes(aiff, comm, bytes(4))
    no_total = with_bytes(flac, 21, bytes([flac[21] & 0xF0, 0, 0, 0, 0]))
    return {
        "wav of 0": wav(0),
        "wav of 0 in a RIFF that ends there": wav(0, 36),
        "wav of 0 after an info chunk": wav(0, before=INFO),
        "wav of 0 with 0 samples by fact": wav(0, before=b"fact" + struct.pack("<II", 4, 0)),
        "wav of -1": wav(0xFFFFFFFF, 0xFFFFFFFF),
        "wav of more": wav(40_000, 40_036),
        "wav of 2 GB": wav(0x7FFFF000, 0x7FFFF024),
        "wav with an odd chunk that is not padded": wav(
            len(PCM), before=b"note" + struct.pack("<I", 3) + b"abc"
        ),
        "wav with an odd chunk that is padded": wav(
            len(PCM), before=b"note" + struct.pack("<I", 3) + b"abc\0"
        ),
        "rf64 of 0": with_bytes(rf64, ds64 + 8, bytes(8)),
        "rf64 of 0 throughout": with_bytes(rf64, ds64, bytes(24)),
        "rf64 of -1": with_bytes(rf64, ds64, b"\xff" * 24),
        "w64 of 0": with_bytes(with_bytes(w64, w64_data, bytes(8)), 16, bytes(8)),
        "w64 of -1": with_bytes(w64, w64_data, b"\xff" * 8),
        "aiff of 0 frames": no_frames,
        "aiff of 0 throughout": with_bytes(with_bytes(no_frames, ssnd, bytes(4)), 4, bytes(4)),
        "aiff of -1 frames": with_bytes(with_bytes(aiff, comm, b"\xff" * 4), ssnd, b"\xff" * 4),
        "caf of -1": with_bytes(caf, caf_data, b"\xff" * 8),
        "au of -1": with_bytes(au, 8, b"\xff" * 4),
        "au of 0": with_bytes(au, 8, bytes(4)),
        "flac of 0": no_total,
        "flac of 0 without MD5": with_bytes(no_total, 26, bytes(16)),
        "flac of 2^36": with_bytes(flac, 21, bytes([flac[21] | 0x0F]) + b"\xff" * 4),
        "flac of less": with_bytes(flac, 22, struct.pack(">I", 4000)),
        "flac of more": with_bytes(flac, 22, struct.pack(">I", 80_000)),
    }


@pytest.mark.parametrize("name", unfinished())
def test_what_is_there_counts(name):
    data = unfinished()[name]
    sound, header = media.open(data), media.probe(data)
    np.testing.assert_allclose(sound.samples, TONE, atol=2**-14)
    assert (header.duration_s, header.sample_rate_hz, header.num_channels) == (1.0, RATE_HZ, 1)
    assert sum(map(len, audio_blocks(data))) == 16_000


def test_a_header_that_is_right_is_believed():
    empty = wav(0, 36 + len(INFO), pcm=b"", after=INFO)
    with pytest.raises(MediaError, match="no samples"):
        media.open(empty)
    behind = wav(len(PCM), 36 + len(PCM) + len(INFO), after=INFO)
    assert len(media.open(behind).samples) == RATE_HZ
    assert len(media.open(wav(len(PCM) // 2, 36 + len(PCM) // 2)).samples) == RATE_HZ // 2
    for name in ("flac", "mp3"):
        whole = specimens.sound(name, seconds=5.0)
        with opened(whole, Limits()) as source:
            assert has_correct_length(source, name)
        with opened(whole[: len(whole) * 2 // 3], Limits()) as source:
            assert not has_correct_length(source, name)


@pytest.mark.parametrize(
    ("name", "part"), [("flac", 0.5), ("mp3", 0.5), ("opus", 0.5), ("wav", 0.5), ("aiff", 0.5)]
)
def test_what_is_cut_is_as_long_as_it_decodes(name, part):
    whole = specimens.sound(name, channels=1, seconds=5.0)
    data = whole[: int(len(whole) * part)]
    sound = media.open(data)
    assert 1 < sound.duration_s < 4
    assert media.probe(data).duration_s == pytest.approx(sound.duration_s, abs=0.03)
    assert sum(map(len, audio_blocks(data))) / 16_000 == pytest.approx(sound.duration_s, abs=0.03)


@pytest.mark.parametrize(
    "bits",
    ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"],
)
def test_every_depth_is_heard_as_it_is_opened(bits):
    data = encoded("WAV", bits)
    sound, header = media.open(data), media.probe(data)
    assert np.abs(sound.samples[:RATE_HZ] - TONE).mean() < 0.04
    blocks = np.concatenate(list(audio_blocks(data, rate_hz=RATE_HZ)))
    np.testing.assert_allclose(blocks, sound.samples[:, 0], atol=1e-6)
    assert header.duration_s == sound.duration_s


@pytest.mark.parametrize(("stored", "valid"), [(16, 12), (24, 20), (32, 20), (32, 24)])
def test_valid_bits_are_the_upper_ones(stored, valid):
    wide = stored // 8
    guid = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE_HZ, RATE_HZ * wide, wide, stored, 22, valid, 4) + guid
    numbers = (TONE[:, 0].astype(np.float64) * (2.0 ** (stored - 1) - 1)).astype(np.int64)
    pcm = b"".join(int(number).to_bytes(wide, "little", signed=True) for number in numbers)
    data = b"RIFF" + struct.pack("<I", 60 + len(pcm)) + b"WAVEfmt " + struct.pack("<I", 40) + form
    data += b"data" + struct.pack("<I", len(pcm)) + pcm
    np.testing.assert_allclose(media.open(data).samples, TONE, atol=2 ** (2 - valid))
    blocks = np.concatenate(list(audio_blocks(data, rate_hz=RATE_HZ)))
    np.testing.assert_allclose(blocks, TONE[:, 0], atol=2 ** (2 - valid))


def ogg_flac(samples: np.ndarray, rate_hz: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as file:
        layout = "mono" if samples.shape[1] == 1 else "stereo"
        stream = file.add_stream("flac", rate=rate_hz, layout=layout)
        for start in range(0, len(samples), 4608):
            part = (samples[start : start + 4608] * 32767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate_hz, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()


def ogg(codec: str, rate_hz: int, channels: int) -> bytes:
    tone = specimens.tone(1.0, channels=1, rate_hz=rate_hz).repeat(channels, axis=1)
    return ogg_flac(tone, rate_hz) if codec == "FLAC" else encoded("OGG", codec, tone, rate_hz)


@pytest.mark.parametrize("second", [(8000, 1), (16_000, 2), (48_000, 1)])
@pytest.mark.parametrize("codecs", [("VORBIS", "VORBIS"), ("OPUS", "OPUS"), ("VORBIS", "OPUS")])
def test_every_link_of_a_chain_is_heard(codecs, second):
    data = ogg(codecs[0], 8000, 1) + ogg(codecs[1], *second) + ogg(codecs[0], 8000, 1)
    sound, header = media.open(data), media.probe(data)
    assert (sound.sample_rate_hz, sound.samples.shape[1]) == (8000, 1)
    assert sound.duration_s == pytest.approx(3.0, abs=0.01)
    levels = np.sqrt((sound.samples[: 3 * 8000].reshape(3, -1) ** 2).mean(axis=1))
    np.testing.assert_allclose(levels, 0.354, atol=0.02)
    assert header.duration_s == pytest.approx(3.0, abs=0.01)
    assert (header.sample_rate_hz, header.num_channels) == (8000, 1)
    assert sum(map(len, audio_blocks(data))) / 16_000 == pytest.approx(3.0, abs=0.01)


def test_chains_are_told_from_files_of_one_link():
    one = ogg("VORBIS", 8000, 1)
    for data, count in ((one, 1), (one[:-50] + one, 2), (one + b"OggS\x00\x02" + bytes(40) + one, 2)):
        with opened(data, Limits()) as source:
            parts = links(source)
            assert len(parts) == count
            assert b"".join(part.content() for part in parts) == data
    damaged = ogg("OPUS", 8000, 1)[:400]
    assert media.open(one + damaged + one).duration_s == pytest.approx(2.0, abs=0.1)
    with pytest.raises(LimitError, match="seconds"):
        media.open(one + one, limits=media.Limits(seconds=1.5))
    with pytest.raises(LimitError, match="decoded"):
        media.open(one + one, limits=media.Limits(decoded_bytes=50_000))


def mp3(rate_hz: int, channels: int) -> bytes:
    tone = specimens.tone(1.0, channels=1, rate_hz=rate_hz).repeat(channels, axis=1)
    return encoded("MP3", "MPEG_LAYER_III", tone, rate_hz)


def adts(rate_hz: int, channels: int) -> bytes:
    return packed("adts", rate_hz, channels)


def transport(rate_hz: int, channels: int) -> bytes:
    return packed("mpegts", rate_hz, channels)


def packed(container: str, rate_hz: int, channels: int) -> bytes:
    out, layout = io.BytesIO(), "mono" if channels == 1 else "stereo"
    tone = specimens.tone(1.0, channels=1, rate_hz=rate_hz).repeat(channels, axis=1)
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream("aac", rate=rate_hz, layout=layout)
        for start in range(0, len(tone), 1024):
            part = np.ascontiguousarray(tone[start : start + 1024].T)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate_hz, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("make", [mp3, adts, transport])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((44_100, 2), (44_100, 2)),
        ((44_100, 2), (22_050, 2)),
        ((22_050, 1), (44_100, 2)),
        ((44_100, 2), (44_100, 1)),
    ],
)
def test_rate_and_channels_may_change_midway(make, first, second):
    data = make(*first) + make(*second)
    sound, header = media.open(data), media.probe(data)
    assert (header.sample_rate_hz, header.num_channels) == (sound.sample_rate_hz, sound.samples.shape[1])
    assert sound.duration_s == pytest.approx(2.05, abs=0.12)
    assert header.duration_s == pytest.approx(sound.duration_s, abs=0.15)
    assert sum(map(len, audio_blocks(data))) / 16_000 == pytest.approx(sound.duration_s, abs=0.01)
    quarter = sound.sample_rate_hz // 4
    for start in (quarter, 5 * quarter + quarter // 2):
        part = sound.samples[start : start + 2 * quarter]
        np.testing.assert_allclose(np.sqrt((part**2).mean(axis=0)), 0.354, atol=0.03)


def test_tags_of_megabytes_come_before_the_sound():
    size = 5 << 20
    tag = b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
    sound = mp3(44_100, 2)
    assert len(media.open(tag + sound).samples) == len(media.open(sound).samples)
    assert media.probe(tag + sound).duration_s == media.probe(sound).duration_s


def test_more_channels_than_ffmpeg_has_layouts_for(capfd):
    samples = np.repeat(TONE, 17, axis=1)
    data = encoded("WAV", "PCM_16", samples)
    assert media.open(data).samples.shape == samples.shape
    np.testing.assert_allclose(
        np.concatenate(list(audio_blocks(data, rate_hz=RATE_HZ))), TONE[:, 0], atol=1e-4
    )
    media.open(unfinished()["w64 of 0"])
    assert capfd.readouterr() == ("", "")
