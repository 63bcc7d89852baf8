"""Damaged headers and metadata of pictures and texts: a right value or one error, in bounded memory and time.

`SENSORIUM_FUZZ_EXAMPLES=20000 pytest tests/fuzz/test_fuzz_images.py` looks for longer.
"""

import os
import struct
import sys
import zlib
from functools import cache
from pathlib import Path

import bounded
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "media"))
import specimens

import picture_files
from picture_files import gif_frame, packed
from sensorium import media
from sensorium.core.errors import SensoriumError

EXAMPLES = int(os.environ.get("SENSORIUM_FUZZ_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 60,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def read_media(path: Path) -> str:
    """Open a file whole and small; check that the results could be right, and that probe tells the same."""
    if path.name == "warm-up":
        for seed in seeds().values():
            for target_px in (None, 8):
                media.open(seed, target_px=target_px)
    try:
        header = media.probe(path)
    except SensoriumError:
        header = None
    for target_px in (None, 8):
        found = media.open(path, target_px=target_px)
        assert header is not None, "open gives a value, and probe refuses"
        kind = type(found).__name__.lower()
        assert kind == header.kind, (kind, header)
        if isinstance(found, media.Image | media.Video):
            pixels = found.pixels[None] if isinstance(found, media.Image) else found.frames
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 4
            assert pixels.size > 0
        if isinstance(found, media.Image) and target_px is None:
            assert found.pixels.shape == (header.height_px, header.width_px, 3), header
        if isinstance(found, media.Video):
            assert len(found.frames) == len(found.times_s)
            assert (np.diff(found.times_s) > 0).all()
        if isinstance(found, media.Text):
            assert found.text.strip()
    return f"{header}"


@cache
def seeds() -> dict[str, bytes]:
    """Good files, with as many kinds of header and metadata as there are."""
    names = ("jpeg", "png", "webp", "tiff", "bmp", "gif", "avif", "ppm", "qoi", "ico", "jpeg2000")
    found = {name: specimens.picture(name) for name in names}
    found |= {f"animated {name}": specimens.animation(name, 3) for name in ("gif", "webp", "apng", "avif")}
    grey = np.arange(35, dtype=np.uint16).reshape(5, 7)
    colours = np.arange(105, dtype=np.uint16).reshape(5, 21)
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 1, 6) + bytes(4)
    texts = [
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(3000))),
        (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"abc")),
    ]
    texts += [(b"tEXt", b"a\0b"), (b"iCCP", b"a\0\0" + zlib.compress(bytes(300))), (b"eXIf", exif)]
    for depth, colour in ((1, 0), (2, 0), (8, 0), (16, 0), (8, 2), (16, 2), (16, 6), (16, 4), (4, 3)):
        samples = colours % 256 if colour == 2 else grey % min(16, 1 << depth)
        if colour in (4, 6):
            samples = np.tile(grey, picture_files.PNG_CHANNELS[colour])
        before = [*texts, (b"PLTE", bytes(48))] if colour == 3 else list(texts)
        before += [(b"tRNS", bytes(6 if colour == 2 else 2))] if colour in (0, 2, 3) else []
        found[f"png {depth} {colour}"] = picture_files.png(samples, depth, colour, before=before, after=texts)
    for bits, photometric, channels in (
        (1, 0, 1),
        (8, 3, 1),
        (16, 0, 1),
        (8, 6, 3),
        (8, 8, 3),
        (16, 2, 3),
        (8, 5, 4),
    ):
        rows = b"".join(packed(np.tile(grey, channels) % min(256, 1 << bits), bits, "<"))
        tags = {258: ("H", [bits] * channels), 262: ("H", [photometric]), 277: ("H", [channels])}
        tags |= {320: ("H", [0] * 768)} if photometric == 3 else {}
        tags |= {530: ("H", [1, 1]), 274: ("H", [6])} if photometric == 6 else {}
        found[f"tiff {bits} {photometric}"] = picture_files.tiff([rows], (7, 5), tags=tags)
        packed_rows = zlib.compress(rows)
        found[f"zip tiff {bits} {photometric}"] = picture_files.tiff(
            [packed_rows], (7, 5), tags=tags | {259: ("H", [8]), 284: ("H", [1])}
        )
    palette = [(0, 0, 0), (255, 255, 255), (1, 2, 3), (4, 5, 6)]
    found["bmp 4"] = picture_files.bmp(packed(grey % 4, 4), (7, 5), 4, palette=palette)
    found["bmp 12"] = picture_files.bmp(packed(grey % 2, 1), (7, 5), 1, palette=palette[:2], header_bytes=12)
    runs = [bytes([3, 1, 2, 2, 0, 0]), b"\0\2\1\0" + bytes([0, 3, 1, 2, 3, 0]), b"\0\0\0\1"]
    found["bmp rle"] = picture_files.bmp(runs, (5, 4), 8, compression=1, palette=palette)
    found["bmp masks"] = picture_files.bmp(
        [bytes(28)] * 5,
        (7, 5),
        32,
        compression=3,
        masks=(0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        header_bytes=108,
    )
    frames = [gif_frame(grey % 4, 1, 1, key=2, disposal=disposal) for disposal in (0, 2, 3)]
    found["gif frames"] = picture_files.gif(frames, (9, 9), palette)
    found["p2"] = b"P2\n# made\n3 2\n9\n1 2 3 4 5 6\n"
    found["p4"] = b"P4 9 2 " + bytes(4)
    found["p6"] = b"P6\n2 1\n1000\n" + bytes(12)
    return found


INTERESTING = st.sampled_from([0, 1, 2, 4, 8, 16, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with some of its numbers changed, parts of it repeated, left out or cut off."""
    whole = seeds()[draw(st.sampled_from(sorted(seeds())))]
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 5))):
        if len(data) < 4:
            break
        # Headers are where the damage matters, and they stand in front.
        last = min(len(data) - 1, draw(st.sampled_from([32, 64, 200, 1000, len(data)])))
        at = draw(st.integers(0, last))
        match draw(st.integers(0, 6)):
            case 0:
                data[at] = draw(st.integers(0, 255))
            case 1 | 2:
                size = draw(st.sampled_from([1, 2, 4]))
                value = draw(INTERESTING) & ((1 << 8 * size) - 1)
                data[at : at + size] = value.to_bytes(size, draw(st.sampled_from(["big", "little"])))
            case 3:
                data[at] = data[at] ^ 1 << draw(st.integers(0, 7))
            case 4:
                del data[at : at + draw(st.integers(1, 40))]
            case 5:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case 6:
                data = data[: max(4, at)] if draw(st.booleans()) else data + whole
    return _with_checksums(bytes(data))


def _with_checksums(data: bytes) -> bytes:
    """Right the checksums of a PNG, so that damage reaches what reads its chunks."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + size
        if end + 4 > len(data):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(out)


MAGICS = [
    "P3 2 2 255 ",
    "P1\n",
    "P6\n2 2\n255\n",
    "GIF89a",
    "BM",
    "II*",
    "RIFF",
    "%PDF-",
    "<svg",
    "ID3",
    "qoif",
]
MAGICS += ["#EXTM3U", "<?xml", "P5 2 2 ", "xxxxftyp", "xxxxfree", "fLaC", "OggS", "FORM", "MThd", "P2 1 1 #"]
TEXTS = st.builds(
    lambda magic, text, encoding: (magic + text).encode(encoding, "surrogatepass"),
    st.sampled_from(["", *MAGICS]),
    st.text(max_size=60) | st.text("0123456789 \n#", max_size=40),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    good = tmp_path_factory.mktemp("images") / "warm-up"
    good.write_bytes(seeds()["png"])
    with bounded.BoundedReader("test_fuzz_images:read_media", good) as reader:
        yield reader


@given(data=damaged())
@FUZZ
def test_damaged_pictures(data, reader, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    outcome = reader(path)
    if outcome.kind not in ("value", "refused"):
        (Path(os.environ.get("SENSORIUM_FUZZ_KEEP", path.parent)) / "found").write_bytes(data)
    bounded.assert_sound(outcome)


@given(data=TEXTS)
@FUZZ
def test_texts_that_begin_like_other_files(data, reader, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "text"
    path.write_bytes(data)
    bounded.assert_sound(reader(path))
