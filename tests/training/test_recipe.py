"""Recipes: read, changed, refused in one line."""

from pathlib import Path

import pytest
from small_tables import locked_recipe, scratch_recipe

from sensorium.core.config import parse, to_toml
from sensorium.core.errors import ConfigError, NotFoundError
from sensorium.training.recipe import Recipe, differences, find_recipe, read_recipe, recipes_dir


def test_a_recipe_survives_toml_and_takes_changes(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(to_toml(locked_recipe(Path("t.lance"))))
    recipe = read_recipe(
        path, ["train.lr=0.5", "data.test=0.3", "model.towers.image.views=1", "data.extra=['x']"]
    )
    assert recipe.train.lr == 0.5
    assert recipe.data.test == 0.3
    assert recipe.data.extra == ["x"]
    assert recipe.model.towers["image"].views == 1
    assert parse(Recipe, recipe.model_dump(mode="json"), "again") == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.lrr=1", "unknown key 'train.lrr', did you mean 'lr'?"),
        ("model.towers.image.encodr=1", "did you mean 'encoder'?"),
        ("train.epochs=3", "give one of epochs and steps"),
        ("train.batch_size=1", "greater than or equal to 2"),
        ("data.test=1.5", "not a share between 0 and 1"),
        ("loss.pairs=[{a='image', b='image'}]", "name two fields"),
        ("loss.pairs=[{a='image', b='video'}]", r"no \[model.towers.video\]"),
        ("data.fields=['image']", "'text', which is not among data.fields"),
        ("model.towers.image.unlock=1", "set frozen = true"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(to_toml(scratch_recipe(Path("t.lance"))))
    with pytest.raises(ConfigError, match=message) as caught:
        read_recipe(path, [change])
    assert "\n" not in str(caught.value)


def test_recipes_are_found_by_name() -> None:
    assert find_recipe("stamps") == recipes_dir() / "stamps.toml"
    with pytest.raises(NotFoundError, match="no file nothing"):
        read_recipe("nothing")


def test_differences_name_what_was_added_and_what_was_taken_away() -> None:
    assert differences({"a": {"b": 1}}, {"a": {"b": 1, "c": [2]}, "d": None}) == ["a.c"]
    assert differences({"a": [1, 2]}, {"a": [2, 1]}) == ["a"]
