"""The door itself: every kind of source, content over names, one error."""

import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import specimens

from sensorium import media
from sensorium.core.errors import LimitError, MediaError, NotFoundError, UsageError
from sensorium.media.sniff import sniff

PNG = specimens.picture("png")


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "bytearray", "file", "object", "base64", "percent"])
def test_every_kind_of_source_gives_the_same_pixels(kind, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(PNG)
    with path.open("rb") as file:
        source = {
            "path": path,
            "str": str(path),
            "bytes": PNG,
            "bytearray": bytearray(PNG),
            "file": file,
            "object": io.BytesIO(PNG),
            "base64": "data:image/jpeg;base64," + base64.b64encode(PNG).decode(),
            "percent": "data:," + "".join(f"%{byte:02x}" for byte in PNG),
        }[kind]
        image = media.open(source)
    assert isinstance(image, media.Image)
    np.testing.assert_array_equal(image.pixels, specimens.photo(53, 41))


def test_uri_tells_where_it_came_from(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    assert media.open(path).uri == str(path)
    assert media.open(PNG).uri == ""
    assert media.open("data:text/plain;base64,aGk=").uri == "data:text/plain;base64"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("data:,a%20frog", "a frog"),
        ("data:text/plain;charset=utf-8,%E7%BA%A2", "红"),
        ("data:;base64,YSBmcm9n", "a frog"),
        ("data:;base64,YSBm cm9n\n", "a frog"),
        ("DATA:;BASE64,YQ", "a"),
        ("data:;base64,w7_Dvw", "ÿÿ"),
    ],
)
def test_data_uris(uri, text):
    assert media.open(uri).text == text


@pytest.mark.parametrize("uri", ["data:", "data:text/plain", "data:;base64,a", "data:;base64,!!!!", "data:,"])
def test_broken_data_uris_are_refused(uri):
    with pytest.raises(MediaError):
        media.open(uri)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1/a.png", "https://a.b/c", "file:///etc/passwd", "concat:a|b://"]
)
def test_urls_are_never_opened(uri):
    with pytest.raises((UsageError, NotFoundError)):
        media.open(uri)


@pytest.mark.parametrize("name", ["missing", "a\0b", "x" * 5000, "missing/deeper"])
def test_paths_that_lead_nowhere(name, tmp_path):
    with pytest.raises(NotFoundError):
        media.open(f"{tmp_path}/{name}")


def test_folders_pipes_and_devices_are_refused(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/zero")):
        with pytest.raises(MediaError, match="not a regular file"):
            media.open(path)


def test_text_file_objects_and_numbers_are_usage_errors():
    with pytest.raises(UsageError, match="binary mode"):
        media.open(io.StringIO("text"))
    with pytest.raises(UsageError, match="target_px"):
        media.open(PNG, target_px=0)


def test_file_bytes_are_bounded_for_every_source(tmp_path):
    limits = media.Limits(file_bytes=100)
    path = tmp_path / "a.png"
    path.write_bytes(PNG)

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            return b"a" * size

    uri = "data:;base64," + base64.b64encode(PNG * 10).decode()
    for source in (path, PNG, io.BytesIO(PNG), uri, Endless()):
        with pytest.raises(LimitError, match="file_bytes"):
            media.open(source, limits=limits)


@pytest.mark.parametrize(
    "name", ["jpeg", "png", "gif", "webp", "tiff", "bmp", "avif", "ppm", "qoi", "ico", "jpeg2000"]
)
def test_header_agrees_with_pixels(name):
    data = specimens.picture(name)
    header, image = media.probe(data), media.open(data)
    assert (header.kind, header.format, header.num_bytes, header.num_frames) == ("image", name, len(data), 1)
    assert image.pixels.shape == (header.height_px, header.width_px, 3)


def test_errors_name_the_file_once(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(PNG[:200])
    with pytest.raises(MediaError) as caught:
        media.open(path)
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"MAC address", b"P1 is a road", b"BM is short", b"MZ", b"GIF", b"RIFF raff"]
)
def test_words_that_look_like_magic_are_text(content):
    if content.startswith(b"RIFF"):
        with pytest.raises(MediaError):
            sniff(content)
    else:
        assert sniff(content).name == "text"


def test_import_is_light():
    """`--help` must answer at once: no decoder and no torch may load before a file needs it."""
    heavy = ["torch", "av", "soundfile", "soxr", "PIL"]
    code = f"import sys, sensorium.media; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


def test_limits_refuse_nonsense():
    with pytest.raises(UsageError, match="seconds"):
        media.Limits(seconds=0)
    with pytest.raises(UsageError, match="pixels"):
        media.Limits(pixels=-1)
    with pytest.raises(UsageError, match="seconds"):
        media.Limits(seconds=float("nan"))
