"""`chat` about pictures, by voice and aloud, by the real command line, on small random models."""

import io
import json
from pathlib import Path

import pytest

from gguf_files import write_model
from sensorium import media
from sensorium.assistants.assistant import write_config
from sensorium.assistants.load import load_assistant
from sensorium.cli import main
from sensorium.cli.output import visible
from tiny_assistants import write_picture, write_run, write_sound

PLAIN = ["--max-tokens", "5", "--temperature", "0", "--repetition-penalty", "1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_run(folder / "all", {"ask": ["en"], "transcribe": ["en"], "speak": ["en"]}, ["text", "audio"])
    write_run(folder / "seeing", {"ask": ["en"]})
    write_run(folder / "drawing", {"draw": ["en"]}, ["image"])
    write_picture(folder / "a.png")
    write_sound(folder / "q.wav", 0.5)
    write_model(folder / "tiny.gguf")
    return folder


def chat(monkeypatch: pytest.MonkeyPatch, lines: str, *arguments: object) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return main(["chat", *map(str, arguments), *PLAIN])


def test_a_spoken_question_about_a_picture_is_answered_in_speech(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sensorium.assistants.conversation.USUAL", write_config(5, 0.0))
    monkeypatch.setattr("sensorium.assistants.chunked_transcribe._CHUNK_CONFIG", write_config(17, 0.0))
    (tmp_path / "answer-001.wav").write_text("kept")
    spoken = ["--speak", "-o", tmp_path, "--json", "-a", world / "a.png"]
    assert chat(monkeypatch, f"/voice {world / 'q.wav'}\nthe sun\n", "-m", world / "all", *spoken) == 0
    said = capsys.readouterr()
    told = [json.loads(line) for line in said.out.splitlines()]
    assistant = load_assistant(world / "all")
    heard = " ".join(assistant.generate([world / "q.wav", "What is said?"], max_tokens=17).text.split())
    assert f"(heard: {visible(heard)})" in said.err
    assert [one.get("heard") for one in told] == [heard, None]
    texts = [heard, "the sun"]
    expected = [assistant.generate([world / "a.png", text], max_tokens=5).text for text in texts]
    assert [one["text"] for one in told] == expected
    assert [one["audio"] for one in told] == [str(tmp_path / f"answer-00{n}.wav") for n in (2, 3)]
    assert media.open(told[0]["audio"]).duration_s > 0
    assert (tmp_path / "answer-001.wav").read_text() == "kept"


def test_who_does_not_see_is_stood_in_for_unless_chosen(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sensorium.assistants.capabilities.RUNS", world)
    monkeypatch.setattr("sensorium.assistants.capabilities.shipped_dir", lambda name: world / "none")
    monkeypatch.setattr("sensorium.cli.chat._USUAL", str(world / "tiny.gguf"))
    monkeypatch.delenv("SENSORIUM_ASSISTANT", raising=False)
    lines = f"low\n/attach {world / 'a.png'}\nthe sun\n/clear\nlow\n"
    assert chat(monkeypatch, lines, "--json") == 0
    said = capsys.readouterr()
    plain, seen, again = (json.loads(line)["text"] for line in said.out.splitlines())
    assert plain == again
    assert seen == load_assistant(world / "all").generate([world / "a.png", "the sun"], max_tokens=5).text
    assert f"model: {world / 'all'}" in said.err
    assert chat(monkeypatch, lines, "-m", world / "tiny.gguf") == 2
    assert "reads text, got Image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "arguments", "code", "message"),
    [
        ("hi\n", ["-m", "drawing"], 2, "drawing is not trained for chat; try --model smollm2"),
        ("/voice none.wav\n", ["-m", "all"], 4, "no file 'none.wav'; give the recording of a question"),
        ("hi\n", ["-m", "seeing", "--speak"], 4, "`sensorium train speak` and give --model runs/speak"),
        ("hi\n", ["-m", "seeing", "--speak", "--voice", "drawing"], 2, "for a model that speaks, train"),
    ],
)
def test_mistakes_are_one_line(
    world: Path,
    lines: str,
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setattr("sensorium.assistants.capabilities.shipped_dir", lambda name: world / name)
    assert chat(monkeypatch, lines, *arguments) == code
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
