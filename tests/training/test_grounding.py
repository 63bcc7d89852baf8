"""Training grounders: boxes move with pictures, targets lie on things, runs learn, resume and are refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from region_world import SIDE, recipe_values, small_grounder, square_sample, square_table
from sensorium.cli import main
from sensorium.core.config import to_toml
from sensorium.core.errors import ConfigError, TrainingError, UsageError
from sensorium.core.types import Tokens
from sensorium.data.loading.order import Order
from sensorium.data.table.sample import Region
from sensorium.data.table.table import Table
from sensorium.data.transforms import ImageInput
from sensorium.grounding.batches import (
    collate,
    fit_of,
    prepare_image,
    prepare_row,
    token_span,
)
from sensorium.grounding.predict import locate
from sensorium.losses.multiple_instance import multiple_instance_bce, unique_words
from sensorium.media import Image
from sensorium.models.checkpoint import load
from sensorium.models.grounder import Grounder, centres
from sensorium.training.grounding.batches import phrase_batches
from sensorium.training.grounding.criterion import (
    Grounding,
    GroundingRecipe,
    box_loss,
    names_loss,
    on_things,
    place_loss,
    some_places,
)
from sensorium.training.recipe import recipes_dir
from sensorium.training.trainer import train


@pytest.mark.parametrize("size", [(97, 53), (53, 97), (31, 31), (13, 5)])
@pytest.mark.parametrize("mode", ["pad", "squash"])
def test_boxes_move_with_their_pictures(size: tuple[int, int], mode: str) -> None:
    width, height = size
    box = np.array([[width * 0.25, height * 0.25, width * 0.75, height * 0.75]], np.float32)
    pixels = np.full((height, width, 3), 255, np.uint8)
    x0, y0, x1, y1 = (round(float(value)) for value in box[0])
    pixels[y0:y1, x0:x1] = 0
    image_input = ImageInput(size_px=61, mode=mode)
    fit = fit_of(width, height, image_input)
    moved = fit.to_input(np.array([[x0, y0, x1, y1]], np.float32))[0]
    dark = image_input(Image(pixels))[0] < 0
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.abs(moved - seen).max() <= max(2.0, 61 / min(size))
    assert np.allclose(fit.to_image(fit.to_input(box)), box, atol=1e-4)


def test_a_cut_that_might_lose_things_is_refused() -> None:
    with pytest.raises(UsageError, match="use pad or squash"):
        fit_of(20, 30, ImageInput(mode="crop"))


def test_spans_cover_the_tokens_of_their_characters() -> None:
    text_input = small_grounder().text.input
    text = "the red square and a thing left of it"
    whole = token_span(text_input, Region(text, 0, len(text)), 40)
    parts = [token_span(text_input, Region(text, *span), 40) for span in ((0, 14), (14, 18), (18, len(text)))]
    assert np.array_equal(np.logical_or.reduce(parts), whole)
    assert sum(part.sum() for part in parts) == whole.sum()
    assert not whole[0]  # the start token is of no phrase
    with pytest.raises(UsageError, match="covers no token"):
        token_span(text_input, Region(text, 5, 5), 40)


def test_targets_lie_on_the_things_and_nowhere_else() -> None:
    model = small_grounder()
    batch = collate([prepare_row(square_sample(n, "s"), n, model) for n in range(5)], model)
    middles = centres(model.grid, model.size_px)
    where = on_things(middles, batch)
    assert where.shape == (15, 1, 64)
    for phrase in range(15):
        if batch.num_boxes[phrase] == 0:
            assert not where[phrase].any()
            continue
        x0, y0, x1, y1 = batch.boxes[phrase, 0].tolist()
        chosen = middles[where[phrase, 0]]
        assert len(chosen) >= 1
        assert ((chosen[:, 0] > x0) & (chosen[:, 0] < x1) & (chosen[:, 1] > y0) & (chosen[:, 1] < y1)).all()


def test_the_losses_are_their_closed_forms() -> None:
    on_any = torch.tensor([[True, True, False], [False, False, False]])
    scores, absent = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]), torch.tensor([0.0, 2.0])
    logs = torch.cat([scores, absent[:, None]], dim=1).log_softmax(dim=1)
    expected = (-(logs[0, 0] + logs[0, 1]) / 2 - logs[1, 3]) / 2
    assert torch.allclose(place_loss(scores, absent, on_any), expected)
    box = torch.tensor([[[2.0, 3.0, 7.0, 11.0]]])
    told = torch.stack([box[0, 0], box[0, 0] + 100])[None]
    at_first, at_second = torch.tensor([[[True, False]]]), torch.tensor([[[False, True]]])
    assert box_loss(told, box, at_first).item() == pytest.approx(0)
    assert 1.9 < box_loss(told, box, at_second).item() < 2
    assert box_loss(told.requires_grad_(), box, at_first & at_second).item() == 0


def test_batches_depend_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    table, model = square_table(tmp_path / "t.lance"), small_grounder()
    order, options = Order(np.arange(24), 5, seed=3), {"texts_per_image": 2}
    whole = list(phrase_batches(table, order, model, failures={}, **options).epoch(1))
    tail = list(phrase_batches(table, order, model, failures={}, **options).epoch(1, 2))
    assert len(whole) == len(phrase_batches(table, order, model, failures={}, **options)) == 4
    for one, other in zip(whole[2:], tail, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.texts.values, other.texts.values)
        assert torch.equal(one.boxes, other.boxes)
    assert all(int((batch.image_of_text == 0).sum()) == 2 for batch in whole)


def test_rows_that_cannot_be_used_are_left_out_and_named(tmp_path: Path) -> None:
    table = square_table(tmp_path / "t.lance", 7, 1)
    from sensorium.data.table.sample import Sample

    table.add([Sample("bad", image=b"not an image", regions=[Region("a square", 0, 8)]), Sample("none")])
    failures: dict[int, str] = {}
    order = Order(np.array([0, 1, 8, 9]), 4, seed=0)
    batches = phrase_batches(table, order, small_grounder(), texts_per_image=2, failures=failures)
    (batch,) = batches.epoch(0)
    assert sorted(batch.rows.tolist()) == [0, 1]
    assert set(failures) == {8, 9}


def accuracy(run: Path, table: Table) -> float:
    model = load(run, Grounder)
    rows = np.flatnonzero(np.array(table.column("source")) == "squares-test")
    samples = table.rows(rows)
    found = locate(model, [prepare_row(s, 0, model) for s in samples], [s.regions for s in samples])
    hits = [
        bool(abs(one.boxes[0] - np.array(one.region.boxes[0])).max() < 5)
        for row in found
        for one in row
        if one.region.boxes
    ]
    return float(np.mean(hits))


@pytest.mark.slow
def test_it_learns_where_things_are_and_that_some_are_not(tmp_path: Path) -> None:
    table = square_table(tmp_path / "t.lance", 128, 20)
    values = recipe_values(tmp_path / "t.lance", steps=130, batch_size=16, ema=0.9)
    outcome = train(GroundingRecipe.model_validate(values), tmp_path / "run").outcome
    assert outcome.evaluation is not None
    figures = outcome.evaluation.metrics["squares-test"]
    assert figures["accuracy"] > 0.9
    assert figures["absent AUROC"] > 0.9
    assert accuracy(tmp_path / "run", table) > 0.7


def test_places_are_hidden_by_rows_and_columns_and_each_has_its_turn() -> None:
    number = torch.arange(49.0).expand(2, 49)
    places = Tokens(number[..., None], number < torch.tensor([[49], [40]]))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = [some_places(places, 3) for _ in range(60)]
    for one in drawn:
        kept = one.values[0, :, 0].long()
        rows, columns = (kept // 7).unique(), (kept % 7).unique()
        assert torch.equal(kept, (rows[:, None] * 7 + columns).flatten())
        assert {int(step) for line in (rows, columns) for step in line.diff()} <= {1, 2, 3}
        assert torch.equal(one.mask[1], kept < 40)
    assert {len(one.values[0]) for one in drawn} == {49, 16, 12, 9, 6, 4}
    assert torch.equal(torch.cat([one.values[0, :, 0] for one in drawn]).unique(), number[0])
    assert torch.equal(some_places(places, 1).values, places.values)


def test_names_are_learned_of_each_thing_as_of_an_image_of_its_own() -> None:
    model = small_grounder(names=True)
    batch = collate([prepare_row(square_sample(n, "s"), n, model) for n in range(3)], model)
    found, where = model(batch), on_things(centres(model.grid, model.size_px), batch)
    texts = batch.texts.values[batch.text_of_phrase]
    first, said = unique_words(texts, batch.spans)
    vectors = found.words.values[batch.text_of_phrase].flatten(0, 1)[first]
    named = batch.num_boxes > 0
    own = found.patches.values[batch.image_of_text[batch.text_of_phrase[named]]]
    by_thing = multiple_instance_bce(own, vectors, said[named], where[named, 0])
    loss = names_loss(found.patches.values, found.words.values, batch, where)
    torch.testing.assert_close(loss, by_thing)
    assert Grounding(names_weight=0.5)(model, found, batch).terms["names"] == loss
    nothing = names_loss(found.patches.values, found.words.values, batch, torch.zeros_like(where))
    assert nothing == 0


def test_what_several_phrases_say_of_a_thing_is_said_of_it_once() -> None:
    model = small_grounder(names=True)
    sample = square_sample(0, "s")
    whole = sample.regions[0]
    twice = [whole, Region("a square", 0, 8, whole.boxes)]
    batch = collate([prepare_row(dataclasses.replace(sample, regions=twice), 0, model)], model)
    found, where = model(batch), on_things(centres(model.grid, model.size_px), batch)
    first, said = unique_words(batch.texts.values[batch.text_of_phrase], batch.spans)
    vectors = found.words.values[batch.text_of_phrase].flatten(0, 1)[first]
    expected = multiple_instance_bce(found.patches.values, vectors, said.any(dim=0)[None], where[:1, 0])
    torch.testing.assert_close(names_loss(found.patches.values, found.words.values, batch, where), expected)


@pytest.mark.slow
def test_it_learns_where_things_are_from_captions_alone(tmp_path: Path) -> None:
    table = square_table(tmp_path / "t.lance", 128, 20)
    values = recipe_values(tmp_path / "t.lance", depth=0, steps=120, batch_size=16, ema=0.9)
    values["model"]["text"]["options"]["depth"] = 0
    train(GroundingRecipe.model_validate(values), tmp_path / "run")
    assert accuracy(tmp_path / "run", table) > 0.7


def test_a_loss_that_is_not_a_number_names_its_rows(tmp_path: Path) -> None:
    model = small_grounder()
    batch = collate([prepare_row(square_sample(n, "s"), n + 11, model) for n in range(3)], model)
    found = model(batch)
    found.scores.detach()[4, 2] = float("nan")
    assert Grounding().bad_rows(found, batch) == [12]


def test_recipes_and_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    table = square_table(tmp_path / "t.lance")
    values = recipe_values(tmp_path / "t.lance")
    with pytest.raises(ValueError, match="sets both to 0"):
        GroundingRecipe.model_validate({**values, "data": {**values["data"], "texts_per_image": 0}})
    alone = recipe_values(tmp_path / "t.lance", depth=0)
    with pytest.raises(ValueError, match="names needs boxes"):
        GroundingRecipe.model_validate({**alone, "model": {**alone["model"], "names": True}})
    with pytest.raises(ValueError, match="names_weight goes with"):
        GroundingRecipe.model_validate({**values, "names_weight": 2.0})
    values["data"]["test"] = {"source": "nowhere"}
    with pytest.raises(ConfigError, match="no row has source 'nowhere'"):
        train(GroundingRecipe.model_validate(values), tmp_path / "run")
    values["data"]["test"] = {"source": ["squares", "squares-test"]}
    with pytest.raises(TrainingError, match="0 rows with phrases train"):
        train(GroundingRecipe.model_validate(values), tmp_path / "run")
    assert len(table.rows_with("image")) == 30


@pytest.mark.parametrize("name", ["grounding", "grounding-captions"])
def test_recipes_run_in_miniature(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square_table(tmp_path / "t.lance")
    changes = {
        "data.table": str(tmp_path / "t.lance"),
        "data.test": '{ source = "squares-test" }',
        "data.vocab_size": "300",
        "train.batch_size": "8",
        "train.steps": "2",
        "train.tensorboard": "false",
        "model.image.options": f"{{ width = 16, depths = [1, 1], size_px = {SIDE} }}",
    }
    arguments = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    assert (recipes_dir() / f"{name}.toml").is_file()
    assert main(["train", name, "-o", str(tmp_path / "run"), *arguments]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "squares-test" in said.out
    assert "sensorium align phrases" in said.err
    assert isinstance(load(tmp_path / "run"), Grounder)


def test_a_recipe_with_a_wrong_key_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square_table(tmp_path / "t.lance")
    (tmp_path / "r.toml").write_text(to_toml(recipe_values(tmp_path / "t.lance")))
    assert (
        main(["train", str(tmp_path / "r.toml"), "-o", str(tmp_path / "run"), "--set", "data.tabel=x"]) == 2
    )
    assert "did you mean 'table'" in capsys.readouterr().err


def test_an_image_of_any_shape_is_prepared() -> None:
    prepared = prepare_image(Image(np.zeros((13, 31, 3), np.uint8)), 5, [Region("a", 0, 1)], small_grounder())
    assert prepared.pixels.shape == (3, SIDE, SIDE)
    assert (prepared.width_px, prepared.height_px) == (31, 13)
