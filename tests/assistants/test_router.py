"""Several models as one: each is asked what it was taught, spoken questions and spoken answers among them."""

import json
import shutil
from pathlib import Path

import pytest

import sensorium as sm
from sensorium.align.text_lines import as_sentence
from sensorium.assistants import router as composed
from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import Assistant, Turn, write_config
from sensorium.assistants.chunked_transcribe import ChunkedTranscriber
from sensorium.assistants.router import AssistantRouter, member_for
from sensorium.cli import main
from sensorium.core.errors import CheckpointError, UsageError
from tiny_assistants import write_picture, write_run, write_sound


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs in a folder, and things that are none."""
    home = tmp_path_factory.mktemp("home") / "all"
    write_run(home / "ears", {"transcribe": ["en"]})
    write_run(home / "eyes", {"ask": ["en"], "caption": ["en"]})
    write_run(home / "hand", {"draw": ["en"]}, ("image",))
    write_run(home / "mouth", {"speak": ["en"], "caption": ["en"]}, ("text", "audio"))
    (home / "notes").mkdir()
    (home / "README.md").write_text("what is here")
    return home


@pytest.fixture(scope="module")
def whole(home: Path) -> AssistantRouter:
    found = sm.load(home)
    assert isinstance(found, AssistantRouter)
    assert isinstance(found, Assistant)
    return found


def test_it_can_what_any_of_them_can(whole: AssistantRouter) -> None:
    assert set(whole.capabilities) == {"transcribe", "ask", "caption", "draw", "speak"}
    assert set(whole.outputs) == {"text", "image", "audio"}
    assert whole.member("caption").name == "eyes"  # the first by name that was taught it
    assert member_for(whole, "speak").name == "mouth"
    assert member_for(whole.member("draw"), "draw") is whole.member("draw")
    with pytest.raises(
        UsageError, match=r"all transcribes speech, answers .*; for a model that translates, train"
    ):
        whole.member("translate")
    with pytest.raises(UsageError, match="for a model that answers questions, use --model smollm2"):
        whole.generate(["What is left?"])  # of nothing that is in view


def test_each_is_asked_what_it_was_taught(whole: AssistantRouter, home: Path, tmp_path: Path) -> None:
    picture, sound = write_picture(tmp_path / "a.png"), write_sound(tmp_path / "a.wav", 0.4)
    few = {"max_tokens": 6}
    for name, parts, to in (
        ("eyes", [picture, "What is left?"], "text"),
        ("eyes", [picture], "text"),
        ("ears", [sound], "text"),
        ("hand", ["a red tree"], "image"),
        ("mouth", ["a red tree"], "audio"),
    ):
        alone = sm.load(home / name)
        assert whole.generate(parts, to=to, **few).ids == alone.generate(parts, to=to, **few).ids, name
    assert ask(whole, "caption", [picture]).ids == ask(sm.load(home / "eyes"), "caption", [picture]).ids


def test_spoken_questions_are_answered_aloud(
    whole: AssistantRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composed, "_QUESTION", write_config(5, 0.0))  # random models do not stop
    picture, sound = write_picture(tmp_path / "a.png"), write_sound(tmp_path / "q.wav", 0.4)
    heard = whole.generate([sound], max_tokens=5).text.strip()
    assert heard
    answer = whole.generate([picture, heard], max_tokens=7)
    assert whole.generate([picture, sound], max_tokens=7).ids == answer.ids
    spoken = whole.generate([picture, sound], to="audio", max_tokens=7)
    assert spoken.ids == whole.generate([as_sentence(answer.text)], to="audio", max_tokens=7).ids
    assert spoken.audio is not None
    assert spoken.audio.duration_s > 0
    described = whole.generate([picture], to="audio", max_tokens=7)
    told = whole.generate([picture], max_tokens=7).text
    assert described.ids == whole.generate([as_sentence(told)], to="audio", max_tokens=7).ids
    # later turns look at the same picture; questions that were heard before are not heard again
    turns = [Turn("user", (picture, sound)), Turn("assistant", ("red",)), Turn("user", ("What is left?",))]
    later = whole.reply(turns)
    assert later.ids == whole.generate([picture, "What is left?"]).ids


def test_the_commands_take_it(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, sound = write_picture(tmp_path / "a.png"), write_sound(tmp_path / "a.wav", 0.4)
    model = ["--model", str(home), "--json"]
    for words in (
        ["ask", str(picture), "What is left?", "--max-tokens", "4"],
        ["caption", str(picture), "--max-tokens", "4"],
        ["transcribe", str(sound)],
        ["draw", "a red square", "-o", str(tmp_path / "out.png")],
        ["speak", "a red square", "-o", str(tmp_path / "out.wav"), "--max-tokens", "4"],
    ):
        assert main([*words, *model]) == 0, capsys.readouterr().err
        assert {"text", "path"} & set(json.loads(capsys.readouterr().out))
    assert main(["translate", "--to", "fr", "a tree", *model]) == 2
    assert "for a model that translates, train one with" in capsys.readouterr().err


def test_what_came_along_is_found_by_each_command(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home, tmp_path / "checkpoints" / "assistant")
    monkeypatch.setattr("sensorium.assistants.capabilities.shipped_dir", lambda name: tmp_path / name)
    monkeypatch.chdir(tmp_path)
    picture = write_picture(tmp_path / "a.png")
    assert main(["ask", str(picture), "What is left?", "--max-tokens", "4"]) == 0
    assert "assistant/eyes" in capsys.readouterr().err.replace("\n", "")
    assert isinstance(sm.load("assistant"), AssistantRouter)
    assert ChunkedTranscriber(member_for(sm.load("assistant"), "transcribe"))


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        sm.load(tmp_path / "empty")
