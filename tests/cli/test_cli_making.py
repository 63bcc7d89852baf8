"""`draw` and `speak` by the real command line, on small random models with their codecs."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from composed_world.rerank import caption_logprobs
from multimodal_world import config
from sensorium import media
from sensorium.assistants.load import load_assistant
from sensorium.cli import main
from sensorium.generation import Feed, PlainDecoder
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.processor import batch_of, prepare
from tiny_assistants import write_picture, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "run"
    return write_run(folder, {"draw": ["en"], "speak": ["en"]}, ["image", "audio"])


def test_a_picture_is_what_the_model_writes_through_its_codec(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = str(tmp_path / f"{name}.png")
        assert (
            main(["draw", "a", "red tree", "-o", out, "--seed", str(seed), "--model", str(run), "--json"])
            == 0
        )
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told.pop("seconds") >= 0
    assert told == {"path": str(tmp_path / "c.png"), "width_px": 16, "height_px": 16, "tokens": 4}
    first, again, other = (media.open(tmp_path / f"{name}.png").pixels for name in "abc")
    expected = load_assistant(run).generate(["a red tree"], to="image", temperature=1.0, seed=1).image
    assert np.array_equal(first, expected.pixels)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_speech_is_the_sentences_one_after_another(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(run), "--max-tokens", "41", "--temperature", "0"]
    assert main(["speak", "a red tree", "-o", str(tmp_path / "a.wav"), *options]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.wav'}\n"
    one = media.open(tmp_path / "a.wav")
    expected = load_assistant(run).generate(["a red tree"], to="audio", max_tokens=41).audio
    assert np.abs(one.samples - expected.samples.clip(-1, 1)).max() < 1e-4
    assert main(["speak", "a red tree. the sun!", "-o", str(tmp_path / "b.wav"), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"path", "duration_s", "first_s", "tokens", "seconds"}
    assert told["first_s"] <= told["seconds"]
    assert told["duration_s"] == pytest.approx(told["tokens"] / 50 + 0.15, abs=0.01)


def test_speech_is_heard_as_it_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    options = ["--model", str(run), "--max-tokens", "90", "--temperature", "1"]
    monkeypatch.setattr("sys.stdin", io.StringIO("a big blue frog"))
    assert main(["speak", "-o", "-", *options]) == 0
    streamed = media.open(capsysbinary.readouterr().out)
    assert main(["speak", "a big blue frog", "-o", str(tmp_path / "a.wav"), *options]) == 0
    whole = media.open(tmp_path / "a.wav")
    assert streamed.samples.shape == whole.samples.shape
    assert np.abs(streamed.samples - whole.samples).max() < 1e-4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["draw", "a", "-o", "out.gif"], 2, "ends in .png"),
        (["draw", " ", "-o", "out.png"], 2, "nothing to draw"),
        (["draw", "a"], 2, "--out"),
        (["draw", "a", "-o", "out.png", "--judge", "x", "--best-of", "1"], 2, "ranks several images"),
        (["speak", "a", "-o", "out.mp3"], 2, "ends in .wav"),
        (["speak", "a", "-o", "-", "--json"], 2, "give -o FILE"),
        (
            ["speak", "red " * 40, "-o", "out.wav", "--model", "MUTE"],
            2,
            "for a model that speaks, train one with",
        ),
        (["draw", "a", "-o", "out.png", "--model", "LOST"], 2, "codec elsewhere/image-codec is missing"),
    ],
)
def test_mistakes_are_one_line(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sensorium.assistants.capabilities.shipped_dir", lambda name: tmp_path / name)
    if "MUTE" in arguments:
        write_run(tmp_path / "MUTE", {"ask": ["en"]})
    if "LOST" in arguments:
        shutil.copytree(run, tmp_path / "LOST")
        shutil.rmtree(tmp_path / "LOST" / "image-codec")
    model = [] if "--model" in arguments else ["--model", str(run)]
    assert main([*arguments, *model]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_without_a_model_the_recipe_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sensorium.assistants.capabilities.shipped_dir", lambda name: tmp_path / name)
    for command, recipe, out in (("draw", "draw", "a.png"), ("speak", "speak", "a.wav")):
        assert main([command, "a frog", "-o", out]) == 4
        assert f"`sensorium train {recipe}` and give --model runs/{recipe}" in capsys.readouterr().err


def test_of_several_pictures_the_one_is_kept_that_a_judge_tells_best(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = write_run(tmp_path / "judge", {"ask": ["en"], "caption": ["en"]})
    draw = ["draw", "a red tree", "--seed", "3", "--model", str(run), "--temperature", "1.5"]
    pictures = []
    for number in range(4):
        single = [*draw[:3], str(3 + number), *draw[4:]]
        assert main([*single, "-o", str(tmp_path / f"{number}.png")]) == 0
        pictures.append(media.open(tmp_path / f"{number}.png"))
    told = caption_logprobs(load(judge, MultimodalLM), pictures, "a red tree")
    best = int(told.argmax())
    assert len(set(told.tolist())) > 1
    assert best > 0  # else the law says little
    chosen = [*draw, "--best-of", "4", "--judge", str(judge), "-o", str(tmp_path / "best.png")]
    assert main(chosen) == 0
    assert np.array_equal(media.open(tmp_path / "best.png").pixels, pictures[best].pixels)
    for name, message in (("blind", "reads no images"), ("mute", "for a model that describes media")):
        text = {"text": config().model_dump()["sources"]["text"]}
        tasks = {"ask": ["en"]} | ({"caption": ["en"]} if name == "blind" else {})
        write_run(tmp_path / name, tasks, **({"sources": text} if name == "blind" else {}))
        capsys.readouterr()
        assert main([*chosen[:-4], "--judge", str(tmp_path / name), "-o", str(tmp_path / "no.png")]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "no.png").exists()


def test_what_came_along_draws_eight_and_any_other_model_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sensorium.assistants.capabilities.shipped_dir", lambda name: tmp_path / name)
    shipped = tmp_path / "checkpoints" / "assistant"
    shutil.copytree(run, shipped / "draw")
    write_run(shipped / "questions", {"ask": ["en"], "caption": ["en"]})

    def drawn(*options: str) -> np.ndarray:
        words = ["draw", "a red tree", "--seed", "3", "--temperature", "1.5", "-o", "a.png"]
        assert main([*words, *options]) == 0
        return media.open(tmp_path / "a.png").pixels

    eight, one = drawn("--best-of", "8"), drawn("--best-of", "1")
    assert not np.array_equal(eight, one)  # else the law says little
    assert np.array_equal(drawn(), eight)
    assert np.array_equal(drawn("--model", "assistant"), eight)
    assert np.array_equal(drawn("--model", str(shipped / "draw")), eight)
    assert np.array_equal(drawn("--model", str(run)), one)
    assert np.array_equal(drawn("--model", str(run), "--judge", str(shipped / "questions")), eight)


def test_a_caption_is_as_likely_as_its_pieces(run: Path, tmp_path: Path) -> None:
    model = load(write_run(tmp_path / "judge", {"caption": ["en"]}), MultimodalLM)
    pictures = [media.open(write_picture(tmp_path / f"{seed}.png", seed)) for seed in (1, 2, 3)]
    whole = caption_logprobs(model, pictures, "a red tree")
    for picture, found in zip(pictures, whole, strict=True):
        assert caption_logprobs(model, [picture], "a red tree")[0] == pytest.approx(found, abs=1e-4)
        scores = _scores(model, picture, "a red tree")
        assert found == pytest.approx(scores, abs=1e-4)


@torch.no_grad()
def _scores(model: MultimodalLM, picture: media.Image, text: str) -> float:
    """Piece by piece, each as the engine would score it."""
    writer, asked = model.decoder("text"), "What is there?"
    batch = batch_of(model, [0], [prepare(model, {"image": picture})], [asked])
    memory = model.context("text", model.encode(batch)).memory
    decoder = PlainDecoder(writer.model, 1, 64)
    decoder.clear(0, memory)
    prompt, ids = writer.prompt_ids(asked), writer.answer_ids(text)
    (scores,) = decoder.advance([Feed(0, 0, [*prompt, *ids[:-1]], len(ids))])
    return float(scores.double().log_softmax(-1)[range(len(ids)), ids].sum())
