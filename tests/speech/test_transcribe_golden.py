"""Real weights on real and synthetic speech: the words, and when they are said."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sensorium.assistants.load import load
from sensorium.assistants.transcription import TranscriptionAssistant
from sensorium.cli import main
from sensorium.data.collections.espeak import speak
from sensorium.data.collections.packages import fetch
from sensorium.data.collections.stamps import PACKAGE

pytestmark = [pytest.mark.network, pytest.mark.slow]
TEXT = "A pair of blue jeans with patches."


@pytest.fixture(scope="module")
def whisper() -> TranscriptionAssistant:
    return load("whisper-tiny.en", TranscriptionAssistant)


def test_a_recording_of_the_stamps(whisper: TranscriptionAssistant) -> None:
    [path] = fetch(PACKAGE).rglob("blackbird_desc.ogg")
    assert whisper.transcribe(path).text == "Blackbird."


def test_a_synthetic_sentence_and_the_times_of_its_words(
    whisper: TranscriptionAssistant, tmp_path: Path
) -> None:
    speech = speak(TEXT, "en-us", variant="f3")
    soundfile.write(tmp_path / "a.wav", speech.samples, speech.rate_hz)
    found = whisper.transcribe(tmp_path / "a.wav")
    # The synthesiser's breath goes on from what it said before, and the last bits differ between processors:
    # a word may be misheard ("passion"), and a full stop left out.
    heard, truth_words = (text.lower().rstrip(".").split() for text in (found.text, TEXT))
    assert len(heard) == len(truth_words)
    assert sum(one != other for one, other in zip(heard, truth_words, strict=True)) <= 1
    assert [word.word for word in found.words] == found.text.split()
    starts = [word.start_s for word in found.words]
    truth = [word.start_s for word in speech.words]
    assert np.median(np.abs(np.array(starts) - truth)) < 0.15
    assert all(before.end_s <= after.start_s + 1e-6 for before, after in itertools.pairwise(found.words))


@pytest.mark.parametrize(
    ("language", "text", "is_told"),
    [
        ("en-us", "It took the engineers three weeks to find out why the bridge had moved.", False),
        ("fr", "Ma soeur a acheté deux billets pour le concert et en a donné un à son voisin.", True),
        ("de", "Meine Schwester kaufte zwei Karten für das Konzert und gab eine ihrem Nachbarn.", True),
    ],
)
def test_what_is_not_english_is_not_written_as_english_without_a_word(
    language: str, text: str, is_told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = speak(text, language, variant="f2")
    soundfile.write(tmp_path / "a.wav", speech.samples, speech.rate_hz)
    assert main(["transcribe", str(tmp_path / "a.wav"), "--model", "whisper-tiny.en"]) == 0
    said = capsys.readouterr()
    assert ("low confidence" in said.err or "no words were recognised" in said.err) == is_told
