import json
from pathlib import Path

import numpy as np
import pytest

from sensorium.cli import main
from sensorium.core.config import to_toml
from sensorium.core.errors import SensoriumError, SensoriumWarning, UsageError
from sensorium.data.loading.split import split
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.search.classify import classify, read_labels
from sensorium.training.evaluate import evaluate_run, held_out, label_words
from sensorium.training.recipe import Recipe
from tiny_world import TINY_NAMES, draw_shape


def keep_recipe(run: Path, model: JointEmbedding, table: Table, seed: int) -> None:
    """Write the recipe that a run on `table` would have kept."""
    recipe = Recipe.model_validate(
        {
            "seed": seed,
            "data": {"table": str(table.path), "test": 0.4, "languages": ["en"]},
            "model": model.config.model_dump(),
            "loss": {"pairs": [{"a": "image", "b": "text"}]},
            "train": {"steps": 1},
        }
    )
    (run / "recipe.toml").write_text(to_toml(recipe.model_dump(mode="json", exclude_none=True)))


def test_a_model_that_knows_its_table_is_measured_as_such(tiny_run: Path, tiny_table: Table) -> None:
    report = evaluate_run(tiny_run, table=tiny_table.path)
    assert report.num_rows == 8
    found = report.metrics["image->text"]
    assert found["R@1"] == 1.0
    assert found["R@10"] == 1.0
    assert found["chance@1"] == pytest.approx(1 / 8)
    assert found["chance@5"] == pytest.approx(5 / 8)
    assert found["ci95 R@1"] == [1.0, 1.0]
    assert {"text->image", "audio->image", "speech->image", "image->audio"} <= report.metrics.keys()
    assert report.metrics["audio->image"]["queries"] == 4


def test_classes_of_the_metadata_give_zero_shot_accuracy(tiny_run: Path, tiny_table: Table) -> None:
    found = evaluate_run(tiny_run, table=tiny_table.path).metrics["zero-shot image"]
    assert found["classes"] == 4
    assert found["chance@1"] == 0.25
    assert found["acc@1"] > 0.25
    with pytest.warns(SensoriumWarning, match="under 'none'"):
        assert "zero-shot image" not in evaluate_run(tiny_run, table=tiny_table.path, category="none").metrics


def test_the_held_out_rows_are_those_of_the_recipe(
    tiny_run: Path, tiny_model: JointEmbedding, tiny_table: Table
) -> None:
    keep_recipe(tiny_run, tiny_model, tiny_table, seed=3)
    try:
        expected = split(tiny_table.groups, test=0.4, seed=3)
        for table in (None, tiny_table.path):
            held = held_out(tiny_run, table)
            np.testing.assert_array_equal(held.rows, expected["test"])
            np.testing.assert_array_equal(held.train, expected["train"])
        report = evaluate_run(tiny_run, with_probe=True)
        assert report.num_rows == len(expected["test"])
        assert 0 <= report.metrics["linear probe image"]["acc@1"] <= 1
    finally:
        (tiny_run / "recipe.toml").unlink()


def test_without_a_recipe_a_table_is_needed(tiny_run: Path) -> None:
    with pytest.raises(UsageError, match="--table"):
        evaluate_run(tiny_run)


def test_a_table_with_one_modality_cannot_be_measured(tiny_run: Path, tmp_path: Path) -> None:
    table = Table.create(tmp_path / "texts.lance")
    table.add(Sample(str(place), texts=[Caption("en", name)]) for place, name in enumerate(TINY_NAMES))
    with pytest.raises(UsageError, match="nothing to compare"):
        evaluate_run(tiny_run, table=table.path)


def test_equal_captions_count_once_and_are_all_right(tiny_run: Path, tiny_table: Table) -> None:
    tiny_table.add(
        [Sample("other.png", image=draw_shape(TINY_NAMES[0], 60), texts=[Caption("en", TINY_NAMES[0])])]
    )
    found = evaluate_run(tiny_run, table=tiny_table.path).metrics
    assert found["image->text"]["queries"] == 9
    assert found["image->text"]["items"] == 8
    assert found["text->image"]["items"] == 9


def test_the_command_prints_the_agreed_json(
    tiny_run: Path, tiny_table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(tiny_run), "--table", str(tiny_table.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 8
    assert {"R@1", "R@5", "R@10", "chance@10"} <= found["metrics"]["text->image"].keys()
    assert main(["eval", str(tiny_run), "--table", str(tiny_table.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == ["from->to", "R@1", "R@5", "R@10", "chance@10"]
    assert main(["eval", str(tiny_run)]) == 2
    assert main(["eval", str(tiny_run / "none")]) == 4


def test_label_words_read_paths_as_names() -> None:
    assert label_words("animals/sea_birds") == "sea birds"
    assert label_words("red") == "red"


def test_files_are_sorted_into_classes(tmp_path: Path, tiny_model: JointEmbedding) -> None:
    files = []
    for name in TINY_NAMES:
        files.append(tmp_path / f"{name.replace(' ', '_')}.png")
        files[-1].write_bytes(draw_shape(name))
    guesses = classify(files, TINY_NAMES, tiny_model, templates=["{c}"], k=3)
    assert [guess.labels[0][0] for guess in guesses] == list(TINY_NAMES)
    shares = [share for _, share in guesses[0].labels]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    whole = classify(files[:1], TINY_NAMES, tiny_model, templates=["{c}"], k=99)[0].labels
    assert sum(share for _, share in whole) == pytest.approx(1, abs=1e-5)


def test_classify_by_the_command_line(
    tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, names = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "names.txt"
    good.write_bytes(draw_shape("a blue square"))
    bad.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    names.write_text("# shapes\na blue square\n\na red circle\n")
    assert read_labels(names) == ["a blue square", "a red circle"]
    with pytest.raises(SensoriumError, match=r"a\.png is not a text"):
        read_labels(good)
    with pytest.raises(SensoriumError, match=bad.name):
        read_labels(bad)
    command = ["classify", str(good), "--model", str(tiny_run), "--template", "{c}"]
    assert main([*command, "--labels", "a red circle, a blue square", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["uri"] == str(good)
    assert found[0]["labels"][0]["label"] == "a blue square"
    assert main([*command, str(bad), "--labels-file", str(names), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)[1] == {"uri": str(bad), "labels": []}
    assert main(command) == 2
    assert main([*command, "--labels", "one"]) == 2
    assert main([*command, "--labels", "a,a"]) == 2
    assert main([*command, "--labels", "a,b", "--template", "no place"]) == 2
    assert main(["classify", str(tmp_path / "none.png"), "--labels", "a,b", "-m", str(tiny_run)]) == 4
