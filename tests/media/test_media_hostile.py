"""The corpus of hostile files: each gives a right value or one reasoned error, in bounded memory."""

import hostile
import numpy as np
import pytest
import specimens

from sensorium import media
from sensorium.core.errors import LimitError, MediaError
from sensorium.media import sandbox

pytestmark = pytest.mark.slow

MEMORY_BYTES = 512 << 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, hostile.write_corpus(folder)


def outcome(path, **options):
    """What `open` made of a file, and the error's message if it refused."""
    try:
        result = media.open(path, **options)
    except LimitError as error:
        return "limit", str(error)
    except MediaError as error:
        return "refused", str(error)
    check(result)
    return type(result).__name__.lower(), ""


def check(result) -> None:
    """Values that could be right: in shape, type and range."""
    if isinstance(result, media.Audio):
        assert np.isfinite(result.samples).all()
        assert result.samples.size > 0
    elif isinstance(result, media.Video):
        assert len(result.frames) == len(result.times_s) > 0
        assert (np.diff(result.times_s) > 0).all()
    elif isinstance(result, media.Image):
        assert result.pixels.size > 0
    else:
        assert result.text.strip()


def test_there_are_enough(corpus):
    assert len(corpus[1]) >= 120


def test_direct(corpus, capfd, recwarn):
    folder, expected = corpus
    found = {name: outcome(folder / name) for name in expected}
    assert {name: kind for name, (kind, _) in found.items()} == expected
    for name, (_, message) in found.items():
        assert "\n" not in message
        assert message.count(str(folder / name)) <= 1
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_isolated_in_bounded_memory(corpus):
    folder, expected = corpus
    media.open(b"warm", isolate=True)
    too_much = {}
    for name, kind in expected.items():
        assert outcome(folder / name, isolate=True)[0] == kind, name
        peak = max(worker.peak_bytes for worker in sandbox._POOL._idle)
        if peak > MEMORY_BYTES:
            too_much[name] = peak
    assert not too_much


def test_probe_agrees_with_open(corpus):
    folder, expected = corpus
    for name, kind in expected.items():
        try:
            probed = media.probe(folder / name).kind
        except MediaError:
            continue
        assert kind in (probed, "refused", "limit"), name


def test_nothing_outside_the_file_is_opened(corpus, monkeypatch):
    """Pointers stay pointers: neither a file nor a socket is opened for them."""
    import sys

    folder, expected = corpus
    contents = {name: (folder / name).read_bytes() for name, _, _ in hostile._pointers()}
    opened: list[object] = []
    watching = [True]

    def watch(event: str, args: tuple[object, ...]) -> None:
        if watching[0] and event in ("open", "socket.connect", "socket.__new__"):
            opened.append((event, args[0]))

    for content in contents.values():  # load every library first
        outcome(content)
    sys.addaudithook(watch)
    for name, content in contents.items():
        assert outcome(content)[0] == expected[name]
    watching[0] = False
    assert not opened


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_gives_media_or_one_error(seed, capfd):
    """Cuts, flips and splices of every format, decoded in this process."""
    rng = np.random.default_rng(seed)
    wholes = [
        specimens.picture(name) for name in ("jpeg", "png", "webp", "tiff", "bmp", "avif", "ico", "jpeg2000")
    ]
    wholes += [specimens.animation(name) for name in ("gif", "webp", "apng", "avif")]
    wholes += [
        specimens.sound(name) for name in ("wav", "wav24", "flac", "ogg", "opus", "mp3", "aiff", "caf", "au")
    ]
    wholes += [
        specimens.movie(*kind) for kind in (("mp4", "libx264"), ("webm", "libvpx-vp9"), ("mpegts", "libx264"))
    ]
    wholes += [
        specimens.movie("avi", "mpeg4"),
        specimens.track("ipod", "aac"),
        specimens.track("matroska", "aac"),
    ]
    wholes += [
        specimens.encode(media.Image(specimens.photo(64, 64)).to_pillow(), "TIFF", compression="tiff_lzw")
    ]
    for _ in range(12):
        for whole in wholes:
            outcome(damaged(whole, rng))
    assert capfd.readouterr() == ("", "")


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.integers(1, 30)):
        data[rng.integers(len(data))] = rng.integers(256)
    if rng.random() < 0.4:
        data = data[: rng.integers(1, len(data))]
    if rng.random() < 0.2:
        start = rng.integers(len(data))
        data[start:start] = data[: rng.integers(200)]
    return bytes(data)
