"""A speech recogniser as an assistant: equal text, pieces by the window, and refusals."""

from pathlib import Path

import pytest
import torch

import tiny_whisper
from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import Assistant
from sensorium.assistants.transcription import TranscriptionAssistant
from sensorium.core.errors import UsageError
from sensorium.media import open as open_media
from sensorium.models.pretrained.whisper import Whisper, load_whisper
from sensorium.speech.transcribe import TranscribeConfig, Transcriber
from tiny_whisper import record

GREEDY = TranscribeConfig(temperatures=(0.0,), language="en", min_logprob=-99)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Whisper:
    folder = tmp_path_factory.mktemp("whisper")
    return load_whisper(tiny_whisper.write_hf(folder, tiny_whisper.random_state()))


def test_a_recogniser_answers_as_other_models_do(tiny: Whisper, tmp_path: Path) -> None:
    assistant, path = (
        TranscriptionAssistant(Transcriber(tiny, GREEDY), "tiny"),
        record(tmp_path / "a.wav", 2.3),
    )
    assert isinstance(assistant, Assistant)
    whole = assistant.transcribe(path).text
    answer = assistant.generate([path], max_tokens=999)
    assert (answer.text, answer.reason, answer.image, answer.audio) == (whole, "stop", None, None)
    assert tiny.vocabulary.decode(answer.ids).strip() == whole
    assert len(answer.logprobs) == len(answer.ids) > 5
    assert max(answer.logprobs) <= 0
    assert "".join(assistant.generate([open_media(path)], stream=True)) == whole
    short = assistant.generate([path, "What is said?"], max_tokens=5)
    assert (short.ids, short.reason) == (answer.ids[:5], "length")
    ids = torch.tensor([[3, 5, 7]])
    assert assistant.logits(ids).shape == (1, 3, tiny.vocabulary.vocab_size)


def test_what_a_recogniser_does_not_do_is_refused(tiny: Whisper, tmp_path: Path) -> None:
    assistant, path = (
        TranscriptionAssistant(Transcriber(tiny, GREEDY), "tiny"),
        record(tmp_path / "a.wav", 0.3),
    )
    for parts, options, message in (
        (["hello"], {}, "tiny transcribes one sound, got a text"),
        ([path, path], {}, "transcribes one sound, got"),
        ([], {}, "got nothing"),
        ([path], {"to": "audio"}, "tiny only transcribes to text"),
        ([path], {"temperature": 0.5}, "no temperature"),
    ):
        with pytest.raises(UsageError, match=message):
            assistant.generate(parts, **options)
    with pytest.raises(UsageError, match="int4"):
        assistant.with_precision("int4")
    with pytest.raises(UsageError, match="for a model that answers questions, use --model smollm2"):
        ask(assistant, "text", text="Who are you?")
    assert ask(assistant, "transcribe", [path]).text == assistant.transcribe(path).text
