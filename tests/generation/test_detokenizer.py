"""Text as it comes: joined together it is the whole, characters are never split, stop strings never begun."""

from hypothesis import given
from hypothesis import strategies as st

from sensorium.generation.detokenizer import Detokenizer
from sensorium.generation.request_state import prompt_lookup


def of_bytes(ids: list[int]) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


def pieces_of(ids: bytes, stops: list[str]) -> tuple[list[str], Detokenizer]:
    stream, pieces = Detokenizer(of_bytes, stops), []
    for one in ids:
        pieces.append(stream.push(one))
        if stream.stop is not None:
            return pieces, stream
    return [*pieces, stream.finish()], stream


@given(st.text(max_size=23), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_pieces_are_the_text_up_to_the_first_stop(text: str, stops: list[str]) -> None:
    pieces, stream = pieces_of(text.encode(), stops)
    ends = [text.index(stop) for stop in stops if stop in text]
    joined = "".join(pieces)
    assert joined == text[: len(joined)]
    assert (stream.stop is not None) == bool(ends)
    if not ends:
        assert joined == text
    assert all(stop not in joined for stop in stops)
    assert all("\ufffd" not in piece or "\ufffd" in text for piece in pieces)


@given(st.binary(max_size=17))
def test_bytes_that_are_no_characters_come_as_they_are_decoded(data: bytes) -> None:
    pieces, _ = pieces_of(data, [])
    assert "".join(pieces) == of_bytes(list(data))


def test_a_character_waits_for_its_last_byte() -> None:
    assert pieces_of("a🦩b".encode(), [])[0] == ["a", "", "", "", "🦩", "b", ""]


def test_the_beginning_of_a_stop_string_waits() -> None:
    assert pieces_of(b"a<b</s>c", ["</s>"])[0] == ["a", "", "<b", "", "", "", ""]
    assert pieces_of(b"a</", ["</s>"])[0] == ["a", "", "", "</"]


@given(st.lists(st.integers(0, 3), max_size=29), st.integers(1, 5))
def test_drafts_followed_the_same_ids_before(written: list[int], count: int) -> None:
    found = prompt_lookup(written, count)
    assert len(found) <= count
    if found:
        pairs = [written[start : start + 2 + len(found)] for start in range(len(written) - 2)]
        assert written[-2:] + found in pairs
