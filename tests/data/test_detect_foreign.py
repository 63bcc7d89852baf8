"""A text that is surely in another language: no alarm for English, most alarms for sentences in others."""

import pytest

from sensorium.data.curation.language import detect_foreign


@pytest.mark.parametrize(
    "text",
    [
        "A frog.",
        "red car",
        "Las Vegas at night",
        "the Eiffel Tower",
        "Charles de Gaulle",
        "Mona Lisa",
        "café",
        "",
        "Ludwig van Beethoven",
        "123",
        "den of lions",
        "a man and his dog",
        "jalapeño",
        "Côte d'Azur",
        "the cat's toy",
    ],
)
def test_english_and_names_raise_no_alarm(text: str) -> None:
    assert detect_foreign(text, ["en"]) == ""
    assert detect_foreign(text, ["text:en*"]) == ""
    assert detect_foreign(text, []) == ""


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("une pomme rouge", "fr"),
        ("La grenouille est verte et elle chante.", "fr"),
        ("ein Hund", "de"),
        ("¿Dónde está el baño?", "es"),
        ("een rode appel", "nl"),
        ("quả táo đỏ", "vi"),
        ("красное яблоко", "ru"),
        ("这是什么？", "zh"),
        ("赤いりんご", "ja"),
        ("빨간 사과", "ko"),
        ("تفاحة حمراء", "ar"),
        ("una rana", "und"),
    ],
)
def test_another_language_is_told(text: str, language: str) -> None:
    assert detect_foreign(text, ["en"]) == language
    if language != "und":
        assert detect_foreign(text, [language]) == ""
