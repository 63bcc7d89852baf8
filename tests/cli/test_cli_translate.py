"""`translate` by the real command line, on a small random model."""

import io
import json
from pathlib import Path

import pytest

from gguf_files import write_model
from sensorium.assistants.assistant import Generation, write_config
from sensorium.assistants.load import load_assistant
from sensorium.assistants.translate import translate
from sensorium.cli import main
from tiny_assistants import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("world") / "run", {"translate": ["fr", "de"]})


def test_a_text_is_translated_sentence_by_sentence(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assistant = load_assistant(run)

    def alone(text: str, language: str = "fr") -> Generation:
        return assistant.generate([f"To {language}: {text}"], max_tokens=5)

    options = ["--model", str(run), "--max-tokens", "5"]
    assert main(["translate", "--to", "de", "a", "red tree", *options]) == 0
    assert capsys.readouterr().out == alone("a red tree", "de").text + "\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("a red tree. the sun!\n\nthe hat"))
    assert main(["translate", "--to", "fr", *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    one, two, three = (alone(text) for text in ("a red tree.", "the sun!", "the hat"))
    assert told["text"] == f"{one.text} {two.text}\n\n{three.text}"
    assert told["tokens"] == len(one.ids) + len(two.ids) + len(three.ids) > 3


def test_pieces_are_the_whole_and_cancelling_keeps_what_is_written(run: Path) -> None:
    assistant, config = load_assistant(run), write_config(5, 0.0)
    text = "a red tree. the sun! the hat"
    whole = translate(assistant, text, "fr", config)
    assert "".join(translate(assistant, text, "fr", config)) == whole.text
    assert (len(whole.logprobs), whole.reason) == (len(whole.ids), "length")
    part = translate(assistant, text, "fr", config)
    next(iter(part))
    part.cancel()
    assert part.reason == "cancelled"
    assert whole.text.startswith(part.text)
    assert len(part.ids) < len(whole.ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a frog", "--to", "xx"], "run translates into fr, de, not into 'xx'; give one of these"),
        (["a frog"], "--to"),
        ([" ", "--to", "fr"], "nothing to translate"),
        (["a frog", "--to", "fr", "--model", "GGUF"], "train one with `sensorium train translate`"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "a.gguf")
    model = [] if "GGUF" in arguments else ["--model", str(run)]
    named = [str(tmp_path / "a.gguf") if one == "GGUF" else one for one in arguments]
    assert main(["translate", *named, *model]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
