"""Isolated decoding: the same values, killed when it is too much, and no way out."""

import os
import signal
import threading

import numpy as np
import pytest
import specimens

from sensorium import media
from sensorium.core.errors import LimitError, MediaError
from sensorium.media import sandbox
from sensorium.media import serialize as wire
from sensorium.media.source import Source

ALL = [
    specimens.picture(name)
    for name in ("jpeg", "png", "webp", "tiff", "bmp", "avif", "ico", "jpeg2000", "qoi")
]
ALL += [specimens.animation(name) for name in ("gif", "webp", "apng", "avif")]
ALL += [specimens.sound(name) for name in ("wav", "flac", "ogg", "opus", "mp3", "aiff")]
ALL += [specimens.track("ipod", "aac"), specimens.movie("mp4", "libx264", has_sound=True, num_frames=50)]
ALL += [specimens.movie(*kind) for kind in (("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("mpegts", "libx264"))]
ALL += [b"a frog", "\ufeffa frog".encode(), "a frog".encode("utf-16")]


@pytest.mark.parametrize("data", ALL, ids=lambda data: f"{data[:12]!r}-{len(data)}")
def test_isolated_equals_direct(data):
    direct, isolated = media.open(data), media.open(data, isolate=True)
    assert type(direct) is type(isolated)
    ours, theirs = wire.pack_media(direct), wire.pack_media(isolated)
    assert ours[0] == theirs[0]
    assert [bytes(part) for part in ours[1]] == [bytes(part) for part in theirs[1]]


def test_options_pass_through(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(specimens.encode(media.Image(specimens.photo(640, 480)).to_pillow(), "JPEG"))
    image = media.open(path, isolate=True, target_px=50)
    assert image.pixels.shape == (120, 160, 3)
    assert image.uri == str(path)
    image.pixels[0, 0] = 7  # ours to change
    with pytest.raises(LimitError, match="pixels"):
        media.open(path, isolate=True, limits=media.Limits(pixels=1000))


def test_too_much_memory_is_one_error():
    from hostile import png

    data = png(7000, 7000, bytes(876 * 7000))
    with pytest.raises(LimitError, match="memory"):
        media.open(data, isolate=True, limits=media.Limits(memory_bytes=20 << 20))
    assert media.open(data, isolate=True).pixels.shape == (7000, 7000, 3)


def test_too_much_time_is_one_error_and_the_next_call_works():
    from hostile import png

    data = png(7000, 7000, bytes(876 * 7000))
    media.open(b"warm", isolate=True)
    with pytest.raises(LimitError, match=r"more than 0.05 s"):
        media.open(data, isolate=True, limits=media.Limits(timeout_s=0.05))
    assert media.open(b"a frog", isolate=True).text == "a frog"


def test_a_crash_is_one_error_and_the_next_call_works():
    worker = sandbox.Worker()
    try:
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(MediaError, match="crashed"):
            worker.ask(_source(b"a frog"), media.Limits(), None)
    finally:
        worker.kill()
    assert media.open(b"a frog", isolate=True).text == "a frog"


def test_workers_are_kept_and_each_file_has_its_own_process():
    media.open(b"warm", isolate=True)
    kept = list(sandbox._POOL._idle)
    for _ in range(5):
        media.open(b"a frog", isolate=True)
    assert sandbox._POOL._idle == kept


def test_threads_do_not_share_a_worker():
    results: dict[int, str] = {}

    def ask(number: int) -> None:
        results[number] = media.open(f"text {number}".encode(), isolate=True).text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"text {number}" for number in range(4)}


def test_the_child_can_open_nothing():
    """Were a decoder taken over, it still could open neither a file nor a socket."""
    import subprocess
    import sys

    code = """
import socket
from sensorium.media import worker, limits
worker._load_everything()
worker._confine(limits.Limits())
for attempt in (lambda: open('/etc/passwd'), lambda: socket.socket(), lambda: open('/tmp/x', 'w')):
    try:
        attempt()
        print('opened')
    except OSError as error:
        print(error.errno)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["24", "24", "24"]


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"", b""),
        (b"[]", b""),
        (b'{"kind": "Image"}', b""),
        (b'{"kind": "Worm", "facts": {}, "arrays": {}}', b""),
        (b'{"kind": "Image", "facts": {}, "arrays": {"pixels": ["uint8", [2, 2, 3]]}}', b"123"),
        (b'{"kind": "Image", "facts": {}, "arrays": {"pixels": ["uint8", [-1, -1, 3]]}}', b"123"),
        (
            b'{"kind": "Image", "facts": {}, "arrays": {"pixels": ["uint8", [99999999999, 99999999999, 3]]}}',
            b"1",
        ),
        (b'{"kind": "Image", "facts": {}, "arrays": {"pixels": ["object", [1]]}}', b"12345678"),
        (b'{"kind": "Image", "facts": {}, "arrays": {"pixels": ["float32", [1]]}}', b"1234"),
        (b'{"kind": "Text", "facts": {}, "arrays": {"text": ["uint8", [1]]}}', b"\xff"),
        (b"[" * 60_000, b""),
    ],
)
def test_forged_answers_are_refused(header, body):
    with pytest.raises(MediaError, match="makes no sense"):
        wire.unpack_media(header, bytearray(body), "")


def test_a_forked_process_starts_its_own_workers():
    media.open(b"warm", isolate=True)
    read_end, write_end = os.pipe()
    child = _fork()
    if child == 0:
        answer = b"?"
        try:
            answer = media.open(b"a frog", isolate=True).text.encode()
            sandbox._POOL.close()
        finally:
            os.write(write_end, answer)
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        assert pipe.read() == b"a frog"
    os.waitpid(child, 0)
    assert media.open(b"still mine", isolate=True).text == "still mine"


def _fork() -> int:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of threads that numerical libraries keep
        return os.fork()


def _source(content: bytes) -> Source:
    import io

    return Source(io.BytesIO(content), len(content))


def test_wire_round_trip():
    video = media.Video(
        np.arange(2 * 3 * 5 * 3, dtype=np.uint8).reshape(2, 3, 5, 3)[:, ::-1],
        np.array([0.0, 0.5]),
        media.Audio(np.ones((7, 2), np.float32), 8000),
        "u",
    )
    header, parts = wire.pack_media(video)
    again = wire.unpack_media(header, bytearray(b"".join(parts)), "u")
    np.testing.assert_array_equal(again.frames, video.frames)
    np.testing.assert_array_equal(again.times_s, video.times_s)
    np.testing.assert_array_equal(again.audio.samples, video.audio.samples)
    assert again.audio.sample_rate_hz == 8000
