"""`ask` and `caption` by the real command line, on a small random model."""

import json
from pathlib import Path

import pytest

from gguf_files import write_model
from sensorium.assistants.assistant import Turn, write_config
from sensorium.assistants.load import load_assistant
from sensorium.cli import main
from tiny_assistants import write_picture, write_run, write_sound
from tiny_films import scene, write_film


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_run(folder / "run", {"ask": ["en"], "caption": ["en"]})
    for seed, name in ((1, "a"), (2, "b")):
        write_picture(folder / f"{name}.png", seed)
        write_sound(folder / f"{name}.wav", 0.7, seed)
    write_film(folder / "film.mp4", scene(1, 30), sound=None)
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:300])
    write_model(folder / "tiny.gguf")
    return folder


def run(world: Path, command: str, *arguments: str) -> int:
    named = [str(world / one) if Path(one).suffix in (".png", ".wav", ".mp4") else one for one in arguments]
    return main([command, "--model", str(world / "run"), "--max-tokens", "5", *named])


def answers(world: Path, *parts: Path | str) -> str:
    return load_assistant(world / "run").generate(list(parts), max_tokens=5).text


def test_a_question_about_a_picture(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = answers(world, world / "a.png", "a red tree")
    assert run(world, "ask", "a.png", "a red tree") == 0
    assert capsys.readouterr().out == expected + "\n"
    assert run(world, "ask", "a.png", "a red tree", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (set(told), told["text"]) == ({"text", "tokens", "seconds"}, expected)


def test_files_of_two_kinds_are_looked_at_together(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "ask", "a.png", "a.wav", "the sun") == 0
    assert capsys.readouterr().out == answers(world, world / "a.png", world / "a.wav", "the sun") + "\n"


def test_of_several_of_a_kind_each_is_asked(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "ask", "a.png", "b.png", "a.wav", "the sun", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["uri"] for one in told] == [str(world / "a.png"), str(world / "b.png")]
    assert told[1]["text"] == answers(world, world / "b.png", world / "a.wav", "the sun")
    assert run(world, "ask", "a.png", "b.png", "a.wav", "b.wav", "the sun") == 2
    assert "several of image and of audio at once" in capsys.readouterr().err


def test_captions_of_what_can_be_read(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "caption", "a.png", "broken.png", "b.png") == 3
    said = capsys.readouterr()
    captions = [answers(world, world / name, "What is there?") for name in ("a.png", "b.png")]
    expected = [
        f"{world / name}\t{' '.join(one.split())}"
        for name, one in zip(["a.png", "b.png"], captions, strict=True)
    ]
    assert said.out.splitlines() == expected
    assert "broken.png" in said.err
    assert run(world, "caption", "broken.png") == 1


def test_a_film_is_seen_in_its_middle_or_in_parts(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "caption", "film.mp4") == 0
    capsys.readouterr()
    assert run(world, "caption", "film.mp4", "--every", "0.5") == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["0:00", "0:01", "0:01"]
    assert run(world, "ask", "a.wav", "the sun", "--every", "0.3", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["start_s"] for one in told] == pytest.approx([0, 0.3, 0.6])
    assert run(world, "caption", "a.png", "b.png", "--every", "1") == 2
    assert run(world, "caption", "a.png", "--every", "1") == 2
    assert "which has no length" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ask", "none.png", "What is it?"], 4, "none.png"),
        (["ask", "a.png", " "], 2, "the question is empty"),
        (["ask", "a.png"], 2, "put the question after the files"),
        (
            ["ask", "Who are you?"],
            2,
            "describes media; for a model that answers questions, use --model smollm2",
        ),
        (["caption", "a.png", "--precision", "fp7"], 2, "'fp7' is not one of 'fp32'"),
    ],
)
def test_mistakes_are_one_line(
    world: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(world, *arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1


def test_the_first_model_that_was_taught_it_is_taken(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.delenv("SENSORIUM_ASSISTANT", raising=False)
    monkeypatch.setattr("sensorium.assistants.capabilities.shipped_dir", lambda name: world / name)
    assert main(["caption", "a.png"]) == 4
    assert "no trained model describes media yet; train one with `sensorium train assistant` or" in (
        capsys.readouterr().err
    )
    write_run(world / "runs" / "other", {"draw": ["en"]}, ["image"])
    write_run(world / "runs" / "seeing", {"caption": ["en"]})
    assert main(["caption", "a.png", "--max-tokens", "5"]) == 0
    said = capsys.readouterr()
    assert "model: runs/seeing" in said.err
    assert said.out == answers(world, world / "a.png", "What is there?") + "\n"


def test_a_language_model_answers_in_words_alone(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(world / "tiny.gguf")
    assert main(["ask", "low?", "--model", model, "--max-tokens", "5"]) == 0
    config = write_config(5, 0.0, repetition_penalty=1.1)  # as in chat
    expected = load_assistant(model).reply([Turn("user", ("low?",))], config).text
    assert capsys.readouterr().out == expected + "\n"
    assert main(["caption", str(world / "a.png"), "--model", model]) == 2
    assert "for a model that describes media, train one with" in capsys.readouterr().err
