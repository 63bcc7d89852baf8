"""Every recipe of a multimodal model runs, on a tiny table, with tiny parts and for a few steps."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from small_tasks import task_table

from composed_world import lexicon_extension
from region_world import SIDE, tokenizer_json
from sensorium.cli import main
from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat
from sensorium.core.config import to_toml
from sensorium.models import decoder as writer
from sensorium.models.checkpoint import load, save
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.pretrained.text_model import TextModel
from sensorium.nn.block import BlockConfig
from sensorium.training.recipe import recipes_dir
from tiny_assistants import audio_codec, image_codec, write_picture, write_sound

RECIPES = sorted(
    path.stem
    for path in recipes_dir().glob("*.toml")
    if tomllib.loads(path.read_text()).get("task") == "generate"
)
CNN = {"width": 4, "depths": [1, 1]}
SMALL: dict[str, dict[str, Any]] = {
    "image": {"encoder": "image-cnn", "options": {**CNN, "size_px": SIDE}},
    "text": {"encoder": "text-transformer", "options": {"width": 32, "depth": 1}},
    "audio": {"encoder": "audio-cnn", "options": {**CNN, "dim": 12, "num_mels": 40}},
}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table, codecs, and a language model under the name that recipes give."""
    task_table(tmp_path / "t.lance")
    save(image_codec(), tmp_path / "image-codec")
    save(audio_codec(), tmp_path / "audio-codec")
    tokenizer = Bpe(tokenizer_json())
    block = BlockConfig(dim=16, num_heads=2, norm="rms", mlp="swiglu", is_causal=True, rotary_axes=1)
    model = LanguageModel(LanguageModelConfig(vocab_size=tokenizer.vocab_size, block=block, depth=4)).eval()
    layout = "{% for m in messages %}<start>{{ m.content }}<end>{% endfor %}<start>"
    found = TextModel(model, tokenizer, Chat(tokenizer, layout), frozenset({2}), 64)
    monkeypatch.setattr(writer, "open_text_model", lambda name: found)
    monkeypatch.setattr(lexicon_extension, "words", lambda progress: ["red", "squares"])
    return tmp_path


def miniature(name: str, parts: Path) -> Path:
    """The recipe over the tiny table, its sizes made small."""
    values = tomllib.loads((recipes_dir() / f"{name}.toml").read_text())
    letters = "lexicon" in values["model"].get("extensions", {})
    values["data"] |= {"vocab_size": 260 if letters else 300, "max_measured": 3, "max_written": 2}
    for one in values["data"]["tasks"]:
        one |= {"table": str(parts / "t.lance"), "test": {"source": "squares-test"}}
    values["model"] |= {"dim": 32, "fusion_options": {"depth": 1}}
    values["model"]["sources"] = {
        modality: {**SMALL[modality], "frozen": source.get("frozen", False)}
        for modality, source in values["model"]["sources"].items()
    }
    for to, decoder in values["model"]["decoders"].items():
        if "codec" in decoder:
            decoder["codec"] = str(parts / f"{to}-codec")
        if "pretrained" not in decoder:
            decoder |= {"width": 32, "depth": 1}
    values["train"] |= {"steps": 3, "batch_size": 5, "eval_every": 0, "tensorboard": False}
    path = parts / f"{name}.toml"
    path.write_text(to_toml(values))
    return path


def marked(name: str) -> object:
    """A lexicon asks espeak-ng how the words of a list sound."""
    has_lexicon = "[model.extensions.lexicon]" in (recipes_dir() / f"{name}.toml").read_text()
    return pytest.param(name, marks=[pytest.mark.network] if has_lexicon else [])


@pytest.mark.parametrize("name", [marked(name) for name in RECIPES])
def test_it_runs(name: str, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = miniature(name, parts)
    start = []
    if "start_share" in tomllib.loads(recipe.read_text())["train"]:  # it goes on with another run
        first = ["train", str(recipe), "-o", str(parts / "first"), "--json"]
        assert main([*first, "--set", "train.start_share=0"]) == 0, capsys.readouterr().err
        start = ["--set", f"start={parts / 'first'}"]
    capsys.readouterr()
    assert main(["train", str(recipe), "-o", str(parts / "run"), "--json", *start]) == 0, (
        capsys.readouterr().err
    )
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 3
    tasks = {one["task"] for one in tomllib.loads(recipe.read_text())["data"]["tasks"]}
    assert {name.split()[0] for name in result["metrics"]} == tasks
    assert isinstance(load(parts / "run"), MultimodalLM)
    card = (parts / "run" / "card.md").read_text()
    assert all(f"- {task} " in card for task in tasks)
    # what was trained does what it was trained for, by the command line
    picture, sound = write_picture(parts / "a.png"), write_sound(parts / "a.wav")
    words = {
        "ask": ["ask", str(picture), "What is left?"],
        "caption": ["caption", str(picture), "--max-tokens", "5"],
        "transcribe": ["transcribe", str(sound)],
        "translate": ["translate", "--to", "de", "a red square"],
        "draw": ["draw", "a red square", "-o", str(parts / "out.png")],
        "speak": ["speak", "a red square", "-o", str(parts / "out.wav"), "--max-tokens", "5"],
    }
    for task in tasks & set(words):
        assert main([*words[task], "--model", str(parts / "run"), "--json"]) == 0, capsys.readouterr().err
        assert {"text", "path"} & set(json.loads(capsys.readouterr().out))
