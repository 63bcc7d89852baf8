"""A recipe without pairs trains on whatever fields a table holds, and says what it leaves out."""

import itertools
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from small_tables import PAIRS, picture, sound, tokenizer_json

from sensorium.cli import main
from sensorium.core.errors import SensoriumWarning, TrainingError
from sensorium.data.table.sample import Caption, Clip, Sample
from sensorium.data.table.table import Table
from sensorium.models.checkpoint import load
from sensorium.training.embedding.fields import describe_fields, rows_of, with_pairs
from sensorium.training.recipe import Recipe, read_recipe
from tiny_films import scene, write_film

SMALL = {
    "image": ("image-cnn", {"width": 4, "depths": [1, 1], "size_px": 16}),
    "text": ("text-gru", {"width": 16, "tokenizer_json": tokenizer_json()}),
    "audio": ("audio-cnn", {"width": 3, "depths": [1, 1], "dim": 12, "num_mels": 40}),
    "video": (
        "video-frames",
        {"frame": "image-cnn", "frame_options": {"width": 4, "depths": [1], "size_px": 16}},
    ),
}
"""Stand-ins for the pretrained towers."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("films") / "a.mp4"
    write_film(path, scene(1, 8), sound=None)
    return path.read_bytes()


def make(path: Path, fields: str, film: bytes = b"", *, captions: int = 24, language: str = "en") -> Table:
    """A table of 24 rows that hold these fields."""
    rows = []
    for number in range(24):
        colour, shape = PAIRS[number % 8]
        tone = sound(150 + 40 * number, 0.2)
        rows.append(
            Sample(
                f"{number}",
                image=picture(colour, shape, number // 8) if "image" in fields else None,
                audio=tone if "audio" in fields else None,
                video=film + bytes([number]) if "video" in fields else None,
                speech=[Clip("en", tone)] if "speech" in fields else [],
                texts=[Caption(language, f"{colour} {shape} {number}")]
                if "text" in fields and number < captions
                else [],
            )
        )
    table = Table.create(path)
    table.add(rows)
    return table


def small(table: Path) -> list[str]:
    """Changes of the recipe that make it small."""
    changes = {
        "data.table": str(table),
        "train.steps": "2",
        "train.tensorboard": "false",
        "data.class_vectors": "false",
    }
    for name, (encoder, options) in SMALL.items():
        changes[f"model.towers.{name}.encoder"] = encoder
        changes[f"model.towers.{name}.options"] = _toml(options)
    return [f"{key}={value}" for key, value in changes.items()]


def _toml(values: dict) -> str:
    cells = (
        f"{key} = {_toml(value) if isinstance(value, dict) else json.dumps(value)}"
        for key, value in values.items()
    )
    return "{ " + ", ".join(cells) + " }"


def train(table: Path, out: Path, *more: str, recipe: str = "media") -> int:
    changes = [part for change in [*small(table), *more] for part in ("--set", change)]
    return main(["train", recipe, "-o", str(out), "--json", *changes])


@pytest.mark.parametrize(
    "fields",
    [
        "audio text",
        "video text",
        "speech text",
        "image audio",
        "image video",
        "image text audio speech video",
    ],
)
def test_whatever_a_table_holds_trains(
    fields: str, film: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "t.lance", fields, film)
    assert train(tmp_path / "t.lance", tmp_path / "run") == 0
    said = capsys.readouterr()
    measured = json.loads(said.out)["metrics"]
    held = fields.split()
    assert set(measured) == {f"{a}->{b}" for a, b in itertools.permutations(held, 2)}
    for a, b in itertools.combinations(held, 2):
        assert f"{a} and {b} (" in said.err or f"{b} and {a} (" in said.err
    assert "not 512" in said.err
    towers = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["towers"]
    assert set(towers) == {"audio" if name == "speech" else name for name in held}
    assert load(tmp_path / "run").config.dim == 256


def recipe_of(table: Table, *changes: str) -> Recipe:
    return read_recipe("media", [*small(table.path), *changes])


@pytest.mark.parametrize(
    ("fields", "captions", "language", "message"),
    [
        ("text", 24, "en", "text alone"),
        ("image", 0, "en", "a .txt, beside each file"),
        ("audio", 0, "en", "a .txt, beside each file"),
        ("audio text", 24, "de", r"in en\*; it has de 24: .* --set data.languages=\[\]"),
        ("", 0, "en", "sensorium data prepare SRC"),
    ],
)
def test_nothing_to_pair_is_refused_with_what_to_do(
    fields: str, captions: int, language: str, message: str, tmp_path: Path
) -> None:
    table = (
        make(tmp_path / "t.lance", fields, captions=captions, language=language)
        if fields
        else Table.create(tmp_path / "t.lance")
    )
    with pytest.raises(TrainingError, match=message) as caught:
        with_pairs(recipe_of(table), table)
    assert "\n" not in str(caught.value)


def test_pictures_without_captions_learn_the_names_of_classes(tmp_path: Path) -> None:
    table = make(tmp_path / "t.lance", "image")
    recipe = with_pairs(recipe_of(table, "data.class_vectors=true"), table)
    assert [(pair.a, pair.b) for pair in recipe.loss.pairs] == [("image", "text")]
    rows = {"image": np.arange(24), "text": np.zeros(0, np.int64)}
    with pytest.warns(
        SensoriumWarning, match="0 of 20 rows .* know nothing but the class names of image-cnn"
    ):
        assert "image and text (0 rows)" in describe_fields(recipe, table, rows, np.arange(20))


def test_few_captions_and_unused_fields_are_said(tmp_path: Path) -> None:
    table = make(tmp_path / "t.lance", "image text audio", captions=3)
    pairs = 'loss.pairs=[{ a = "image", b = "text" }]'
    recipe = with_pairs(recipe_of(table, pairs), table)
    rows = {name: rows_of(table, name, recipe.data.languages) for name in ("image", "text")}
    with pytest.warns(SensoriumWarning) as said:
        describe_fields(recipe, table, rows, np.arange(24))
    messages = [str(one.message) for one in said]
    assert messages[0].startswith("audio of 24 rows does not train: no pair of the recipe names it")
    assert messages[1].startswith(
        "3 of 24 rows that train have a caption in en*: the model will know what these 3 say"
    )


@pytest.mark.parametrize("recipe", ["stamps", "pictures"])
def test_another_recipe_on_such_a_table_says_what_to_change(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "t.lance", "audio text").path
    assert main(["train", recipe, "-o", str(tmp_path / "run"), "--set", f"data.table={path}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"sensorium train media --set data.table={path}" in said
    assert "--set loss.pairs=[]" in said
