"""Sounds and videos with headers tampered with: a right value or one `SensoriumError`, in bounds.

Right means: samples are finite, times increase, and `probe`, `open`, `audio_blocks` and `frames` agree.
"""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from bounded import BoundedReader, assert_sound
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium import media
from sensorium.core.errors import SensoriumError
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.frames import frames, frames_at, sound

sys.path.append(str(Path(__file__).parents[1] / "media"))
import specimens

EXAMPLES = int(os.environ.get("SENSORIUM_FUZZ_EXAMPLES", "40"))
SOUNDS = (
    "wav",
    "wav8",
    "wav24",
    "wavfloat",
    "wavulaw",
    "rf64",
    "w64",
    "flac",
    "ogg",
    "opus",
    "aiff",
    "au",
    "caf",
    "mp3",
)
TRACKS = (
    ("ipod", "aac"),
    ("adts", "aac"),
    ("matroska", "aac"),
    ("webm", "libopus"),
    ("mpegts", "aac"),
    ("ogg", "libopus"),
)
MOVIES = (
    ("mp4", "libx264"),
    ("matroska", "libx264"),
    ("webm", "libvpx"),
    ("avi", "mpeg4"),
    ("avi", "libx264"),
    ("mpegts", "libx264"),
    ("flv", "flv1"),
)
# Where formats keep lengths, counts and rates; most changes go there.
HEADER_BYTES = 400
LENGTHS = (
    0,
    1,
    2,
    3,
    7,
    12,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
    1 << 40,
)


def wholes() -> list[bytes]:
    """A small healthy file of each reader."""
    made = [specimens.sound(name, channels=1 + place % 2, seconds=0.4) for place, name in enumerate(SOUNDS)]
    made += [specimens.track(*kind) for kind in TRACKS]
    made += [specimens.movie(*kind, num_frames=13, has_sound=True) for kind in MOVIES]
    return made


def read(path: Path) -> str:
    """Reads a file in every way and holds the answers against each other; raises what `open` raises."""
    header = attempt(lambda: media.probe(path))
    heard = attempt(lambda: sum(map(checked, audio_blocks(path))))
    opened = media.open(path)
    if header is not None:
        assert header.kind == type(opened).__name__.lower()
    if isinstance(opened, media.Text | media.Image):
        return header.kind if header is not None else "no header"
    track = opened if isinstance(opened, media.Audio) else opened.audio
    if track is not None:
        checked(track.samples)
        assert track.samples.size
        if header is not None:
            assert (header.sample_rate_hz, header.num_channels) == (
                track.sample_rate_hz,
                track.samples.shape[1],
            )
        if heard is not None:
            assert abs(heard / 16_000 - track.duration_s) < 0.2 + 0.02 * track.duration_s, (heard, track)
    if isinstance(opened, media.Video):
        check_frames(path, opened)
    return f"{opened!r} {header!r}"[:400]


def check_frames(path: Path, video: media.Video) -> None:
    assert len(video.frames) == len(video.times_s) > 0
    assert (np.diff(video.times_s) > 0).all()
    assert video.times_s[0] >= 0
    shown = attempt(lambda: [(frame.time_s, frame.end_s) for frame in frames(path, size=(4, 4))])
    if shown:
        starts, ends = np.array(shown).T
        assert (np.diff(starts) > 0).all()
        assert (ends > starts).all()
    attempt(lambda: [frame.time_s for frame in frames_at(path, [0.0, 0.3], target_px=4)])
    attempt(lambda: sum(checked(block.samples) for block in sound(path)))


def checked(samples: np.ndarray) -> int:
    assert np.isfinite(samples).all()
    return len(samples)


def attempt(reading):
    """What it gives; None if it refuses."""
    try:
        return reading()
    except SensoriumError as error:
        return None if "\n" not in str(error) else pytest.fail(str(error))


@st.composite
def tampered(draw) -> bytes:
    """A healthy file with numbers of its header replaced, cut, joined with another or spliced into one."""
    files = wholes()
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 4))):
        is_head = draw(st.integers(0, 4)) > 0
        at = draw(st.integers(0, min(HEADER_BYTES, len(data)) - 1 if is_head else len(data) - 1))
        number = draw(st.sampled_from(LENGTHS) | st.integers(0, 0xFFFFFFFF))
        width = draw(st.sampled_from("BHIQ"))
        order = draw(st.sampled_from("<>"))
        written = struct.pack(order + width, number & (1 << 8 * struct.calcsize(order + width)) - 1)
        data[at : at + len(written)] = written
    kind = draw(st.sampled_from(("whole", "whole", "cut", "joined", "spliced")))
    if kind == "cut":
        del data[draw(st.integers(1, len(data))) :]
    elif kind == "joined":
        data += draw(st.sampled_from(files))
    elif kind == "spliced":
        at, other = draw(st.integers(0, len(data))), draw(st.sampled_from(files))
        data[at:at] = other[: draw(st.integers(1, 2000))]
    return bytes(data)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    good = tmp_path_factory.mktemp("sounds") / "good"
    good.write_bytes(specimens.movie("mp4", "libx264", num_frames=13, has_sound=True))
    with BoundedReader("test_fuzz_sound:read", good) as reader:
        yield reader


@settings(
    max_examples=EXAMPLES,
    derandomize="SENSORIUM_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=tampered())
def test_tampered_files_give_a_right_value_or_one_error(reader, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "tampered"
    path.write_bytes(data)
    assert_sound(reader(path))


@pytest.mark.parametrize("place", range(len(SOUNDS) + len(TRACKS) + len(MOVIES)))
def test_healthy_files_are_read(place, tmp_path):
    path = tmp_path / "healthy"
    path.write_bytes(wholes()[place])
    assert read(path)
