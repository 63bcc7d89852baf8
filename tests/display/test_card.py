import io

import numpy as np
import pytest
from PIL import Image

from sensorium.data.table.sample import Caption, Clip, Sample
from sensorium.display.card import PICTURE_PX, query_card, sample_card
from sensorium.display.contact_sheet import Strip, draw_sheet
from sensorium.display.fonts import Typeface
from sensorium.display.html_page import draw_page
from tiny_world import draw_shape, play_tone

TONE = play_tone("a red circle")


def test_a_picture_fills_its_square_and_keeps_its_shape() -> None:
    card = sample_card(Sample("x", image=draw_shape("a red square"), texts=[Caption("en", "red")]), score=0.5)
    assert (card.kind, card.caption, card.picture.size) == ("image", "red", (PICTURE_PX, PICTURE_PX))
    assert card.picture.getpixel((PICTURE_PX // 2, PICTURE_PX // 2)) == (214, 40, 40)
    assert card.picture.getpixel((3, 3)) == (255, 255, 255)


def test_a_sound_is_drawn_and_its_length_is_told() -> None:
    card = sample_card(Sample("croak.wav", audio=TONE))
    assert (card.kind, card.caption, card.detail) == ("audio", "croak.wav", "0.4 s")
    assert np.asarray(card.picture).std() > 10


def test_the_field_that_was_searched_is_shown() -> None:
    sample = Sample("x", image=draw_shape("a red square"), speech=[Clip("en", TONE)])
    assert sample_card(sample, shown="speech").kind == "speech"
    assert sample_card(sample, shown="video").kind == "image"


def test_a_video_is_shown_by_its_first_frame() -> None:
    frames = [Image.new("RGB", (24, 24), colour) for colour in ("red", "blue", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=100, loop=0)
    card = sample_card(Sample("x", video=buffer.getvalue()))
    assert card.kind == "video"
    red, _, blue = card.picture.getpixel((PICTURE_PX // 2, PICTURE_PX // 2))
    assert red > 200
    assert blue < 60
    page = draw_page([Strip(card, [])])
    assert "data:image/gif" in page


def test_what_cannot_be_read_is_shown_as_such() -> None:
    card = sample_card(Sample("x", image=b"\x89PNG\r\n\x1a\nbroken"))
    assert card.detail == "unreadable"


def test_captions_prefer_a_language_and_fall_back() -> None:
    sample = Sample("x", texts=[Caption("de", "Frosch"), Caption("en-GB", "frog")])
    assert sample_card(sample).caption == "frog"
    assert sample_card(sample, language="fr").caption == "Frosch"
    assert sample_card(Sample("a/b.png")).caption == "b.png"


def test_a_sound_can_be_played_on_the_page() -> None:
    page = draw_page([Strip(query_card(TONE, "croak"), [])])
    assert "<audio controls" in page
    assert "data:audio/wav;base64," in page


def test_the_page_escapes_what_strangers_wrote() -> None:
    text = "<script>\u202e\"'&"
    page = draw_page([Strip(query_card(text, text), [query_card(TONE, text)])], title=text, footer=text)
    assert "<script>" not in page
    assert "\u202e" not in page
    assert page.count("&lt;script&gt;\\u202e&#34;&#39;&amp;") == 6
    assert "nothing found" in draw_page([Strip(query_card("a frog", ""), [])])


def test_more_hits_than_columns_go_on_below() -> None:
    card = query_card("a frog", "")
    one = draw_sheet([Strip(card, [card] * 5)], columns=5)
    two = draw_sheet([Strip(card, [card] * 6)], columns=5)
    assert two.width == one.width
    assert two.height > one.height


@pytest.mark.parametrize("text", ["one two three four five six seven", "unbreakable" * 9, "фрукт 水果 ثمار"])
def test_wrapped_lines_fit_and_end_in_an_ellipsis_only_if_cut(text: str) -> None:
    face = Typeface(17)
    lines = face.wrap(text, 90, num_lines=2)
    assert len(lines) <= 2
    assert all(face.width(line) <= 90 for line in lines)
    assert lines[-1].endswith("…") == ("".join("".join(lines).split()) != "".join(text.split()))


def test_everything_is_kept_where_there_is_room() -> None:
    assert Typeface(10).wrap("a  b\nc", 1000, num_lines=3) == ["a b c"]
    assert Typeface(10).wrap("", 1000, num_lines=3) == []
