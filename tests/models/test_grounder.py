"""The grounder: padding changes nothing, batches equal singles, it loads as saved, all of it trains."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from region_world import config_values, small_grounder, square_sample
from sensorium.core.errors import CheckpointError, ConfigError
from sensorium.core.types import Padded
from sensorium.data.table.sample import Region
from sensorium.grounding.batches import collate, prepare_row
from sensorium.models.checkpoint import load, save
from sensorium.models.grounder import Grounder, GrounderConfig, GrounderOutput, PhraseBatch, centres
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.grounding.criterion import Grounding


def batch_of(model: Grounder, numbers: list[int], extra_text: str = "") -> PhraseBatch:
    images = [prepare_row(square_sample(number, "squares"), number, model) for number in numbers]
    if extra_text:
        longer = Region(extra_text, 0, 3)
        images[-1] = replace(images[-1], regions=[*images[-1].regions, longer])
    return collate(images, model)


def run(model: Grounder, batch: PhraseBatch) -> GrounderOutput:
    with torch.no_grad():
        return model.eval()(batch)


@pytest.mark.parametrize(("depth", "contrast"), [(0, "words"), (0, "captions"), (2, "words")])
def test_a_batch_equals_its_singles_and_longer_neighbours_change_nothing(depth: int, contrast: str) -> None:
    model = small_grounder(depth, contrast=contrast)
    together = run(
        model, batch_of(model, [0, 1, 2], "the red square left of a square and a thing left of it")
    )
    alone = [run(model, batch_of(model, [number])) for number in (0, 1, 2)]
    scores = torch.cat([found.scores for found in alone])
    assert torch.allclose(together.scores[: len(scores)], scores, atol=1e-4)
    if depth:
        boxes = torch.cat([found.boxes for found in alone])
        assert torch.allclose(together.boxes[: len(boxes)], boxes, atol=1e-3)


@pytest.mark.parametrize(("depth", "contrast"), [(0, "words"), (0, "captions"), (1, "words")])
def test_every_parameter_trains(depth: int, contrast: str) -> None:
    model = small_grounder(depth, contrast=contrast)
    batch = batch_of(model, list(range(7)))
    if depth == 0:
        images = [
            prepare_row(square_sample(number, "squares"), number, model, captions_only=True)
            for number in range(7)
        ]
        images = [replace(image, regions=image.regions[:1]) for image in images]
        batch = collate(images, model)
    found = Grounding()(model, model.train()(batch), batch)
    found.total.backward()
    untrained = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not untrained
    still = [
        name for name, p in model.named_parameters() if p.grad is not None and not p.grad.abs().sum() > 0
    ]
    assert all("key.bias" in name for name in still)  # shifts every score of a query alike


@pytest.mark.parametrize(("depth", "contrast"), [(0, "words"), (0, "captions"), (1, "words")])
def test_what_is_saved_loads_equal_and_is_of_its_family(depth: int, contrast: str, tmp_path: Path) -> None:
    model = small_grounder(depth, contrast=contrast)
    batch = batch_of(model, [3, 5])
    loaded = load(save(model, tmp_path))
    assert isinstance(loaded, Grounder)
    assert loaded.config == model.config
    assert torch.equal(run(loaded, batch).scores, run(model, batch).scores)
    with pytest.raises(CheckpointError, match="holds a grounder; this needs a joint embedding"):
        load(tmp_path, JointEmbedding)
    assert (tmp_path / "card.md").read_text().startswith("# Grounder")


def test_an_image_moved_by_a_place_moves_its_map_without_words_of_place() -> None:
    """The places alone see pixels; only the blocks' positions say where they are."""
    model = small_grounder(0)
    pixels = torch.ones(1, 3, 80, 80)
    pixels[:, :, 32:44, 32:40] = -0.5
    moved = pixels.roll((4, 8), dims=(2, 3))

    def places(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            values = model.eval().image(Padded(x, torch.ones(1, 1, dtype=torch.bool))).values
        return values.reshape(20, 20, -1)

    inner = places(pixels)[6:13, 6:12]
    assert torch.allclose(places(moved)[7:14, 8:14], inner, atol=1e-5)
    assert not torch.allclose(places(moved)[6:13, 6:12], inner, atol=1e-2)


def test_words_start_rare_wherever_they_are_looked_for() -> None:
    model = small_grounder(0)
    found = run(model, batch_of(model, [2, 3]))
    logits = torch.einsum("bmd,tnd->btmn", found.patches.values, found.words.values)
    assert logits.mean() < -1
    assert (found.scores < 0).all()


@pytest.mark.parametrize("merged", [1, 2])
def test_places_lie_where_their_encoder_looks(merged: int) -> None:
    """What a place gives depends on the pixels around its stated middle: there the gradients' mean lies."""
    options = {"width": 3, "depths": [1, 1], "merged": merged, "size_px": 64}
    image = {"encoder": "image-cnn", "options": options}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = Grounder(GrounderConfig.model_validate({**config_values(0), "image": image})).eval()
    pixels = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    row, column = model.grid // 2, model.grid // 4
    values = model.image(Padded(pixels, torch.ones(64, 1, dtype=torch.bool))).values
    values[:, row * model.grid + column].square().sum().backward()
    weight = pixels.grad.square().sum(dim=(0, 1))
    at = torch.arange(64) + 0.5
    found = [float((weight.sum(dim=axis) * at).sum() / weight.sum()) for axis in (0, 1)]
    stated = centres(model.grid, 64)[row * model.grid + column] + model.shift_px
    assert np.allclose(found, stated.tolist(), atol=0.75)


def test_boxes_begin_around_their_places() -> None:
    model = small_grounder(1)
    found = run(model, batch_of(model, [0]))
    middles = (found.boxes[..., :2] + found.boxes[..., 2:]) / 2
    assert (middles[0] - centres(model.grid, model.size_px)).abs().max() < 3
    assert ((found.boxes[..., 2:] - found.boxes[..., :2]) > 0).all()
    assert np.isclose(centres(8, 32)[0].tolist(), [2, 2]).all()


def test_what_does_not_fit_is_refused() -> None:
    values = config_values()
    with pytest.raises(ConfigError, match="encodes text; expected an encoder of image"):
        Grounder(GrounderConfig.model_validate({**values, "image": values["text"]}))
