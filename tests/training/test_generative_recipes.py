"""Every recipe of a multimodal model runs, on a tiny table, with tiny parts and for a few steps."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_courses import lesson_table

from region_world import SIDE, tokenizer_json
from sensorium.cli import main
from sensorium.codecs import ImageFsq, ImageFsqConfig
from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat
from sensorium.core.config import to_toml
from sensorium.models import writer
from sensorium.models.checkpoint import load, save
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.pretrained.text_model import TextModel
from sensorium.nn.block import BlockConfig
from sensorium.tasks import train_generative
from sensorium.training.recipe import recipes_dir

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


class SoundCodec(torch.nn.Module):
    """Stands in for a codec of sound: one id of 23 for every 40 ms."""

    modality, rate, vocab_size = "audio", 25.0, 23

    def encode(self, media: Any) -> np.ndarray:
        size = media.sample_rate_hz // 25
        return np.array([int(abs(part).sum()) % 23 for part in media.samples[: 8 * size].reshape(-1, size)])

    def decode(self, ids: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table, codecs, and a language model under the name that recipes give."""
    lesson_table(tmp_path / "t.lance")
    save(ImageFsq(ImageFsqConfig(size_px=16, widths=(4, 8), levels=(3, 5))).eval(), tmp_path / "image-codec")
    tokenizer = Bpe(tokenizer_json())
    block = BlockConfig(dim=16, num_heads=2, norm="rms", mlp="swiglu", is_causal=True, rotary_axes=1)
    model = LanguageModel(LanguageModelConfig(vocab_size=tokenizer.vocab_size, block=block, depth=4)).eval()
    layout = "{% for m in messages %}<start>{{ m.content }}<end>{% endfor %}<start>"
    found = TextModel(model, tokenizer, Chat(tokenizer, layout), frozenset({2}), 64)
    monkeypatch.setattr(writer, "open_text_model", lambda name: found)
    plain = train_generative.load
    monkeypatch.setattr(
        train_generative, "load", lambda path: SoundCodec() if path.name == "sound-codec" else plain(path)
    )
    return tmp_path


def miniature(name: str, parts: Path) -> Path:
    """The recipe over the tiny table, its sizes made small."""
    values = tomllib.loads((recipes_dir() / f"{name}.toml").read_text())
    values["data"] |= {"vocab_size": 300, "max_measured": 3, "max_written": 2}
    for one in values["data"]["tasks"]:
        one |= {"table": str(parts / "t.lance"), "test": {"source": "squares-test"}}
    values["model"] |= {"dim": 32, "fusion_options": {"depth": 1}}
    values["model"]["sources"] = {modality: SMALL[modality] for modality in values["model"]["sources"]}
    for to, decoder in values["model"]["decoders"].items():
        if "codec" in decoder:
            decoder["codec"] = str(parts / ("image-codec" if to == "image" else "sound-codec"))
        if "pretrained" not in decoder:
            decoder |= {"width": 32, "depth": 1}
    values["train"] |= {"steps": 3, "batch_size": 5, "eval_every": 0, "tensorboard": False}
    path = parts / f"{name}.toml"
    path.write_text(to_toml(values))
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_it_runs(name: str, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = miniature(name, parts)
    assert main(["train", str(recipe), "-o", str(parts / "run"), "--json"]) == 0, capsys.readouterr().err
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 3
    tasks = {one["task"] for one in tomllib.loads(recipe.read_text())["data"]["tasks"]}
    assert {name.split()[0] for name in result["metrics"]} == tasks
    assert isinstance(load(parts / "run"), MultimodalLM)
    card = (parts / "run" / "card.md").read_text()
    assert all(f"- {task} " in card for task in tasks)
