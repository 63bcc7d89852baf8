"""Long recordings are written down window by window by a model that hears some seconds at a time."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sensorium import media
from sensorium.assistants.assistant import write_config
from sensorium.assistants.chunked_transcribe import ChunkedTranscriber, chunks
from sensorium.assistants.load import load
from sensorium.assistants.multimodal_assistant import MultimodalAssistant
from sensorium.cli import main
from sensorium.core.errors import UsageError
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.types import Audio, Video
from tiny_assistants import RATE_HZ, write_run

NOISE = np.random.default_rng(1).normal(0, 0.1, 23 * RATE_HZ).astype(np.float32)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_run(folder / "run", {"transcribe": ["en"], "ask": ["en"]})
    sound = NOISE.copy()
    sound[7 * RATE_HZ : 8 * RATE_HZ] = 0
    soundfile.write(folder / "long.wav", sound, RATE_HZ)
    soundfile.write(folder / "mute.wav", 0 * sound[:RATE_HZ], RATE_HZ)
    return folder


def test_windows_are_the_whole_and_end_where_it_is_quiet(world: Path) -> None:
    found = list(chunks(audio_blocks(world / "long.wav"), 10.0))
    whole = np.concatenate(list(audio_blocks(world / "long.wav")))
    assert np.array_equal(np.concatenate([part for _, part in found]), whole)
    assert all(len(part) <= 10 * RATE_HZ for _, part in found)
    starts_s = [start_s for start_s, _ in found]
    assert 7 <= starts_s[1] <= 8
    assert starts_s == sorted(starts_s)


def test_a_transcript_is_what_is_written_for_each_window(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sensorium.assistants.chunked_transcribe._CHUNK_CONFIG", write_config(7, 0.0))
    assistant = load(world / "run", MultimodalAssistant)
    found = ChunkedTranscriber(assistant).transcribe(world / "long.wav")
    parts = list(chunks(audio_blocks(world / "long.wav"), 10.0))
    expected = [
        " ".join(
            assistant.generate([Audio(part[:, None], RATE_HZ), "What is said?"], max_tokens=7).text.split()
        )
        for _, part in parts
    ]
    assert [one.text for one in found.segments] == [text for text in expected if text]
    assert (found.duration_s, found.language, found.words) == (23.0, "en", [])
    assert [one.word for one in found.timed] == [one.text for one in found.segments]
    assert main(["transcribe", str(world / "long.wav"), "-m", str(world / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == found.text
    assert main(["transcribe", str(world / "mute.wav"), "-m", str(world / "run"), "--srt"]) == 0
    assert capsys.readouterr().out == ""
    for wrong, message in (
        (["--language", "fr"], "transcribes speech into en, not"),
        (["--condition"], "leave them out"),
    ):
        assert main(["transcribe", str(world / "mute.wav"), "-m", str(world / "run"), *wrong]) == 2
        assert message in capsys.readouterr().err


def test_what_would_not_be_heard_is_refused_and_a_film_heard_in_its_middle(world: Path) -> None:
    assistant = load(world / "run", MultimodalAssistant)
    sound = media.open(world / "long.wav")
    with pytest.raises(
        UsageError, match="accepts 10 s of sound at a time, got 23 s; split the sound: --every 10"
    ):
        assistant.generate([sound, "the sun"])
    frames = np.random.default_rng(2).integers(0, 255, (3, 24, 24, 3), dtype=np.uint8)
    film = Video(frames, np.arange(3.0), sound)
    middle = Audio(sound.samples[int(6.5 * RATE_HZ) : int(16.5 * RATE_HZ)], RATE_HZ)
    seen = assistant.generate([film, "the sun"], max_tokens=5).ids
    assert seen == assistant.generate([media.Image(frames[1]), middle, "the sun"], max_tokens=5).ids
