"""Texts: UTF-8 and marked UTF-16, and nothing that only looks like text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium import media
from sensorium.core.errors import LimitError, MediaError

WORDS = "a red 🍎, 红苹果, яблоко\r\n\tnext line"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding):
    assert media.open(WORDS.encode(encoding)) == media.Text(WORDS)
    assert media.probe(WORDS.encode(encoding)).kind == "text"


def test_big_endian_utf16():
    assert media.open(b"\xfe\xff" + WORDS.encode("utf-16-be")).text == WORDS


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"caf\xe9", b"a\x00b", b"\x1b[0m\x07", b"\xff\xfe\x00", b"\xed\xa0\x80", b"\xef\xbb\xbf"],
)
def test_what_is_not_text_is_refused(content):
    with pytest.raises(MediaError):
        media.open(content)


def test_text_is_bounded():
    limits = media.Limits(text_bytes=6)
    assert media.open(b"a frog", limits=limits).text == "a frog"
    with pytest.raises(LimitError, match="7 bytes of text, limit 6"):
        media.open(b"a frogs", limits=limits)


@given(st.binary(max_size=300))
def test_any_bytes_give_media_or_one_error(content):
    try:
        result = media.open(content)
    except MediaError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert isinstance(result, media.Text | media.Image | media.Audio | media.Video)


@given(st.text(alphabet=st.characters(exclude_categories=["C"]), min_size=1).filter(str.strip))
def test_any_words_come_back(words):
    assert media.open(("a" + words).encode()).text == "a" + words
