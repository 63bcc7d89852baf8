"""`chat` and `generate` by the real command line, on a small random model."""

import io
import json
from pathlib import Path

import pytest

from gguf_files import write_model
from sensorium.assistants.load import load
from sensorium.assistants.text_assistant import TextAssistant
from sensorium.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_model(path)
    return path


def run(model: Path, *arguments: str) -> int:
    plain = ["--max-tokens", "5", "--repetition-penalty", "1"]
    return main([*arguments, "--model", str(model), *plain])


def test_generate_answers_and_continues(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assistant = load(model, TextAssistant)
    assert run(model, "generate", "low", "lower") == 0
    assert capsys.readouterr().out == assistant.generate(["low lower"], max_tokens=5).text + "\n"
    assert run(model, "generate", "--continue", "low", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"text", "tokens", "seconds"}
    assert told["tokens"] == 5


def test_generate_reads_a_pipe(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, "generate", "low") == 0
    by_word = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("low"))
    assert run(model, "generate") == 0
    assert capsys.readouterr().out == by_word
    monkeypatch.setattr("sys.stdin", io.StringIO(" "))
    assert run(model, "generate") == 2
    assert "nothing to answer" in capsys.readouterr().err


def test_generate_holds_to_a_form(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, "generate", "low", "--choice", "newest", "--choice", "lowest") == 0
    assert capsys.readouterr().out in {"newest\n", "lowest\n"}
    (tmp_path / "schema.json").write_text('{"type": "boolean"}')
    assert run(model, "generate", "low", "--schema", str(tmp_path / "schema.json")) == 0
    assert isinstance(json.loads(capsys.readouterr().out), bool)
    assert run(model, "generate", "low", "--schema", str(tmp_path / "none.json")) == 4


def test_chat_answers_line_by_line_and_remembers(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("low\n\nnewer\n/clear\nlow\n/quit\nnever\n"))
    assert run(model, "chat", "--temperature", "0", "--json") == 0
    answers = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 3
    assert answers[2] == answers[0]
    assistant = load(model, TextAssistant)
    assert answers[1] != assistant.generate(["newer"], max_tokens=5).text


def test_equal_seeds_give_equal_conversations(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for seed in ("5", "5", "6"):
        monkeypatch.setattr("sys.stdin", io.StringIO("low\nlower\n"))
        assert run(model, "chat", "--temperature", "1", "--seed", seed) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("/nope", 2, "no command /nope; /help lists them"),
        ("/attach none.png", 4, "no file 'none.png'"),
        ("/help", 0, "/attach   FILE: attach a file to the next message"),
    ],
)
def test_commands_and_their_mistakes(
    line: str,
    code: int,
    said: str,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
    assert run(model, "chat") == code
    assert said in capsys.readouterr().err


def test_media_that_the_model_does_not_read_name_what_does(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    Image.new("RGB", (7, 5)).save(tmp_path / "frog.png")
    monkeypatch.setattr("sys.stdin", io.StringIO("What is this?\n"))
    assert run(model, "chat", "--attach", str(tmp_path / "frog.png")) == 2
    assert "--model assistant supports images and sound" in capsys.readouterr().err


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    assert "SmolLM2" in json.loads(capsys.readouterr().out)["presets"]["smollm2"]
