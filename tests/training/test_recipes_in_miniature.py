"""Every recipe that comes with sensorium runs, on a tiny table and for a few steps."""

import json
import tomllib
from pathlib import Path

import pytest
from small_tables import make_table, tokenizer_json

from sensorium.cli import main
from sensorium.models.checkpoint import load
from sensorium.training.recipe import recipes_dir

RECIPES = sorted(
    path.stem for path in recipes_dir().glob("*.toml") if "towers" in tomllib.loads(path.read_text())["model"]
)
SMALL = {
    "image": ("image-cnn", "{ width = 4, depths = [1, 1], size_px = 16 }"),
    "text": ("text-gru", None),
    "audio": ("audio-cnn", "{ width = 3, depths = [1, 1], dim = 12, num_mels = 40 }"),
    "video": ("video-frames", "{ frame_options = { width = 4, depths = [1], size_px = 16 } }"),
}
"""Stand-ins for pretrained towers."""


def miniature(name: str, table: Path, folder: Path, *, keep_towers: bool) -> list[str]:
    values = tomllib.loads((recipes_dir() / f"{name}.toml").read_text())
    changes = {
        "data.table": str(table),
        "data.extra": "[]",
        "data.test": '{ source = "maker-2" }',
        "data.vocab_size": "300",
        "data.repeat": "1",
        "train.batch_size": "7",
        "train.epochs": "1.5",
        "train.workers": "0",
    }
    if "steps" in values["train"]:
        changes["train.steps"] = "3"
        del changes["train.epochs"]
    if not keep_towers:
        changes["model.dim"] = "16"  # the stand-ins' width, for heads that keep it
    for modality, tower in values["model"]["towers"].items():
        if tower.get("frozen", False) and not keep_towers:
            encoder, options = SMALL[modality]
            changes[f"model.towers.{modality}.encoder"] = encoder
            changes[f"model.towers.{modality}.options"] = options or json_options()
            changes["data.class_vectors"] = "false"
    return [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]


def json_options() -> str:
    return f"{{ width = 16, tokenizer_json = {json.dumps(tokenizer_json())} }}"


def run(name: str, tmp_path: Path, capsys, *, keep_towers: bool) -> dict:
    make_table(tmp_path / "t.lance")
    changes = miniature(name, tmp_path / "t.lance", tmp_path, keep_towers=keep_towers)
    assert main(["train", name, "-o", str(tmp_path / "run"), "--json", *changes]) == 0, (
        capsys.readouterr().err
    )
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 3
    assert {"image->text", "text->image"} <= result["metrics"].keys()
    assert load(tmp_path / "run").embed(["a red box"]).vectors.shape[0] == 1
    return result


@pytest.mark.parametrize("name", RECIPES)
def test_it_runs(name: str, tmp_path: Path, capsys) -> None:
    tower = tomllib.loads((recipes_dir() / f"{name}.toml").read_text())["model"]["towers"]["image"]
    if tower["encoder"] in ("image-cnn", "image-vit"):
        run(name, tmp_path, capsys, keep_towers=True)
    else:
        result = run(name, tmp_path, capsys, keep_towers=False)
        assert set(result["metrics"]["image->text"]) >= {"R@1", "R@5", "R@10", "chance@10"}


@pytest.mark.slow
@pytest.mark.network
def test_stamps_runs_with_its_own_towers(tmp_path: Path, capsys) -> None:
    make_table(tmp_path / "t.lance")
    changes = miniature("stamps", tmp_path / "t.lance", tmp_path, keep_towers=True)
    pairs = "[{ a = 'image', b = 'text' }, { a = 'speech', b = 'image' }]"
    arguments = [
        "train",
        "stamps",
        "-o",
        str(tmp_path / "run"),
        "--json",
        *changes,
        "--set",
        f"loss.pairs={pairs}",
    ]
    assert main([*arguments, "--set", "train.batch_size=300"]) == 0, capsys.readouterr().err
    loaded = load(tmp_path / "run")
    assert loaded.embed(["a red box"]).vectors.shape[0] == 1
    assert loaded.config.towers["text"].options["tokenizer_json"]


def test_a_miniature_is_refused_where_the_table_lacks_a_field(tmp_path: Path, capsys) -> None:
    make_table(tmp_path / "t.lance", 3, with_sound=False)
    changes = miniature("stamps", tmp_path / "t.lance", tmp_path, keep_towers=False)
    assert main(["train", "stamps", "-o", str(tmp_path / "run"), *changes]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "loss.pairs names 'audio'" in said[0]
