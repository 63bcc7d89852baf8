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
from sensorium.media.sniff import _MAGIC, _REFUSED

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


WORDS = ["MAC address", "MM", "MZ", "II*", "BM is short", "BMW and other cars that begin with these letters"]
WORDS += ["GIF", "GIF8", "GIF89a is a format", "GIF87a, GIF89a", "fLaC", "OggS", "OggSomething", "RIFF raff"]
WORDS += [
    "RIFFxxxxWAVE",
    "RIFFxxxxWEBP",
    "FORMxxxxAIFF",
    "FORM of words",
    "ID3 tags are nice",
    "APETAGEX",
    "caffeine",
]
WORDS += [
    "The free lunch on a table",
    "one skip on a pier",
    "the wide sea",
    "a moov to make",
    "an mdat is a box",
]
WORDS += [
    "our ftypheic brand",
    "junkjunk",
    "MThd",
    "Rar! said the lion",
    "PK",
    "7z",
    "BZh91AY",
    "8BPS",
    "PAR1",
]
WORDS += [
    "%PDF is a format",
    "%!PS is another",
    "SIMPLE  = easy",
    ".snd",
    "RF64",
    "RIFX",
    "wvpk",
    "TTA1 line",
    "#!AMR",
]
WORDS += [
    "P1 is a road",
    "P3 2 items of mail",
    "P6 10 20 30 apples",
    "P5 3 4 255 words of text",
    "P4 2 3",
    "P2 10 20",
]
WORDS += [
    "P3\n# a heading",
    "P6\n12 of 30",
    "qoif",
    "jP  ",
    "SIMPLE",
    "<svg is a tag",
    "<html is one too",
    "<mpdx>",
]
WORDS += [
    "#EXTM3U8 and others",
    "ffconcat joins files",
    "[playlist] of the day",
    "v=0 at rest",
    "G" + "x" * 187 + "G" * 200,
]
WORDS += [
    "caffè latte",
    "The free lünch",
    "P3 2 Äpfel",
    "ID3 für alle",
    "瑦灹",
    "x瑦灹 mdat",
    "a,b\n1,2\n",
    "\x1b[1mfree",
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("more", ["", " and more words, in which nothing is binary.\n" * 300])
def test_words_that_look_like_magic_are_text(encoding, more):
    marks = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
    for words in WORDS:
        content = marks.get(encoding, b"") + (words + more).encode(encoding)
        assert media.open(content).text == words + more
        assert media.probe(content).kind == "text"


@pytest.mark.parametrize("magic", sorted({*_MAGIC, *_REFUSED}), ids=repr)
def test_every_magic_that_is_text_begins_texts(magic):
    try:
        words = magic.decode() + " is how such files begin"
    except UnicodeDecodeError:
        return
    if words.isprintable() and magic not in (b"%!PS", b"%PDF"):
        assert media.open(words.encode()).text == words


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"%PDF-1.7\n1 0 obj\n", "PDF"),
        (b"%!PS-Adobe-3.0\n%%EOF", "PostScript"),
        (b"SIMPLE  =                    T / a FITS file", "FITS"),
        (b"  \n<SVG width='3'></SVG>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><!-- --><svg>", "SVG"),
        ("\ufeff<!DOCTYPE html><p>".encode("utf-16-le"), "HTML"),
        ("\ufeff#EXTM3U\n#EXTINF:1,\na.ts".encode("utf-16-be"), "playlist"),
        (b"<html lang='en'>", "HTML"),
        (b"GIF89a/*" + b"*/=1;alert(1)//" * 30, "GIF"),
        (b"GIF89a", "GIF"),
        (b"caf\xe9 au lait", "UTF-8"),
        (b"The free l\xfcnch", "UTF-8"),
        (b"words\x00", "binary"),
        (b"words\x07", "U\\+0007"),
    ],
)
def test_what_is_refused_by_its_structure(content, what):
    for door in (media.open, media.probe):
        with pytest.raises(MediaError, match=what):
            door(content)


def test_every_real_file_that_is_cut_stays_one_error_or_what_is_there():
    wholes = [
        specimens.picture(name) for name in ("jpeg", "png", "webp", "tiff", "bmp", "gif", "ico", "ppm", "qoi")
    ]
    wholes += [specimens.sound(name) for name in ("wav", "flac", "ogg", "mp3", "caf", "au", "w64")]
    wholes += [specimens.movie("mp4", "libx264"), specimens.movie("avi", "mpeg4"), specimens.animation("gif")]
    for whole in wholes:
        for length in (12, 24, 40, 100, 1000):
            if length < len(whole):
                try:
                    assert not isinstance(media.open(whole[:length]), media.Text), whole[:length]
                except MediaError:
                    continue


def test_pictures_of_netpbm_that_are_text():
    plain = b"P3\n2 1\n255\n1 2 3 4 5 6\n"
    for content in (
        plain,
        plain.replace(b"\n", b" "),
        plain + b"words",
        b"P1 2 1 01",
        b"P2\n# words\n2 1 9\n3 4",
    ):
        assert media.open(content).pixels.shape == (1, 2, 3)
    dark = b"P5\n64 64\n255\n" + b"d" * 4096
    assert media.open(dark).pixels.tolist() == [[[100] * 3] * 64] * 64
    assert media.open(dark.replace(b"\n", b" ", 2)).pixels.shape == (64, 64, 3)
    for content in (dark[:-1], plain[:-4], b"P2\n2 1\n255\n"):
        with pytest.raises(MediaError, match="early"):
            media.open(content)


@pytest.mark.parametrize(
    "name", ["two\nlines.png", "bell\x07.png", b"caf\xe9.png", "\x1b[31mred.png", "tab\t.png"]
)
def test_messages_are_one_line_whatever_the_name(name, tmp_path):
    path = tmp_path / os.fsdecode(name)
    for content in (PNG[:30], b"", b"caf\xe9"):
        path.write_bytes(content)
        for door in (media.open, media.probe):
            with pytest.raises(MediaError) as caught:
                door(path)
            assert str(caught.value).isprintable()
    path.write_bytes(PNG)
    assert media.open(path).uri == str(path)
    assert media.open(path, isolate=True).uri == str(path)


def _id3(size, footer=False):
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    head = b"ID3\x04\0" + (b"\x10" if footer else b"\0") + digits
    return head + bytes(size) + (b"3DI\x04\0\x10" + digits if footer else b"")


def _ape(size):
    return (
        b"APETAGEX"
        + (2000).to_bytes(4, "little")
        + size.to_bytes(4, "little")
        + bytes(4)
        + b"\0\0\0\xa0"
        + bytes(8 + size)
    )


TAGS = {
    "small": _id3(100),
    "large": _id3(5_000_000),
    "footer": _id3(10_000, footer=True),
    "two": _id3(100_000) + _id3(3000),
    "padded": _id3(5000) + bytes(900),
    "ape": _ape(100_000),
    "both": _id3(50_000) + _ape(9000),
}


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("name", ["mp3", "flac", "aac", "wav", "aiff"])
def test_sounds_after_tags_of_any_length(name, tags):
    whole = specimens.track("adts", "aac") if name == "aac" else specimens.sound(name)
    plain, tagged = media.open(whole), media.open(TAGS[tags] + whole)
    np.testing.assert_allclose(tagged.samples, plain.samples, atol=1e-6)
    header = media.probe(TAGS[tags] + whole)
    assert (header.kind, header.format) == ("audio", name)
    assert header.sample_rate_hz == plain.sample_rate_hz


def test_import_is_light():
    """`--help` must answer at once: no decoder and no torch may load before a file needs it."""
    heavy = ["torch", "av", "soundfile", "soxr", "PIL"]
    code = f"import sys, sensorium.media; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_limits_refuse_nonsense():
    with pytest.raises(UsageError, match="seconds"):
        media.Limits(seconds=0)
    with pytest.raises(UsageError, match="pixels"):
        media.Limits(pixels=-1)
    with pytest.raises(UsageError, match="seconds"):
        media.Limits(seconds=float("nan"))
