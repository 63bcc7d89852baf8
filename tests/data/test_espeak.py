"""The synthesiser: what it says, when it says each word, and what it refuses."""

import re

import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.data.collections.espeak import has_voice, phonemes, prepare, speak

pytestmark = pytest.mark.network


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    prepare()


def test_words_follow_one_another_and_name_their_places() -> None:
    text = "In 1984, a frog sang."
    speech = speak(text, "en")
    starts = [word.start_s for word in speech.words]
    assert starts == sorted(starts)
    assert all(word.start_s < word.stop_s <= len(speech.samples) / speech.rate_hz for word in speech.words)
    assert [word.place for word in speech.words if text[word.place].isalpha()] == [0, 9, 11, 16]
    assert sum(3 <= word.place < 7 for word in speech.words) >= 2  # a number is several words


def test_a_word_ends_before_the_pause_after_it() -> None:
    words = speak("Stop. Go.", "en").words
    assert words[1].start_s - words[0].stop_s > 0.1


def test_the_same_text_sounds_the_same_whatever_was_said_before() -> None:
    first = speak("a green frog", "en")
    speak("une grenouille", "fr", variant="f2", words_per_minute=300, pitch=90)
    again = speak("a green frog", "en")
    assert len(again.samples) == pytest.approx(len(first.samples), rel=0.005)
    for one, other in zip(first.words, again.words, strict=True):
        assert (one.place, one.start_s) == (other.place, pytest.approx(other.start_s, abs=0.005))


def test_pace_and_variant_are_heard() -> None:
    slow, fast = (speak("a green frog", "en", words_per_minute=wpm) for wpm in (100, 200))
    assert 1.5 < len(slow.samples) / len(fast.samples) < 2.5
    plain = speak("a green frog", "en")
    assert not np.array_equal(speak("a green frog", "en", variant="f3").samples, plain.samples)


@pytest.mark.parametrize("language", ["en-GB", "pt_BR", "zh-TW", "nn", "fr-CA", "el", "ml"])
def test_varieties_fall_back_to_their_language(language: str) -> None:
    assert has_voice(language)
    assert len(speak("1", language).samples) > 1000


def test_a_variety_is_not_its_sister() -> None:
    said = {variety: phonemes("water", variety) for variety in ("en-GB", "en-US", "en-029")}
    assert len(set(said.values())) == 3
    assert phonemes("water", "en") == said["en-US"]


def test_sounds_are_letters_with_gaps_and_pauses() -> None:
    text = "Of the frog - and, if it may be, a vis-à-vis: 3!"
    heard = phonemes(text, "en-us")
    assert re.fullmatch(r"[A-Za-z@#:~?03]+( (\| )?[A-Za-z@#:~?03]+)*", heard)
    assert heard.startswith("VvD@ ")
    assert heard.count("|") >= 2
    assert phonemes("frog frog", "en-us") == " ".join([phonemes("frog", "en-us")] * 2)
    assert phonemes("", "en") == phonemes(" ... ", "en") == ""
    with pytest.raises(UsageError, match="does not support 'qq'"):
        phonemes("a", "qq")


def test_what_it_cannot_do_is_told() -> None:
    assert not has_voice("tlh-x")
    with pytest.raises(UsageError, match="does not support 'qq'"):
        speak("a", "qq")
    with pytest.raises(UsageError, match="no variant 'zz9'"):
        speak("a", "en", variant="zz9")
    with pytest.raises(UsageError, match="80 to 450"):
        speak("a", "en", words_per_minute=10)
    assert speak("", "en").words == speak(" — ", "en").words == ()
