"""Phrases: how a text is cut, what is found in an image, and that none share a box where none may."""

from pathlib import Path

import numpy as np
import pytest
import torch

from region_world import small_grounder, square_sample
from sensorium import media
from sensorium.core.errors import UsageError
from sensorium.data.table.sample import Region
from sensorium.grounding.batches import prepare_row
from sensorium.grounding.draw import draw_boxes
from sensorium.grounding.predict import (
    NUM_BOXES,
    Detection,
    find_phrases,
    given_phrases,
    locate,
    noun_phrases,
)


def image(number: int = 0) -> media.Image:
    opened = media.open(square_sample(number, "s").image)
    assert isinstance(opened, media.Image)
    return opened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red frog", ["a red frog"]),
        ("The red frog, two keys and a bell.", ["The red frog", "two keys", "a bell"]),
        ("a cat is sitting on the mat", ["a cat", "the mat"]),
        ("frog to the left of the blue key", ["frog", "the blue key"]),
        ("a man's hat", ["a man's hat"]),
        ("ein grüner Frosch", ["ein grüner Frosch"]),
    ],
)
def test_texts_are_cut_into_simple_noun_phrases(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in noun_phrases(text)] == expected


@pytest.mark.parametrize("text", ["", "  ", "on the", "..."])
def test_a_text_without_a_phrase_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no phrase"):
        noun_phrases(text)


def test_given_phrases_are_found_in_turn() -> None:
    text = "a dog and a Dog"
    assert given_phrases(text, ["a dog", "a dog"]) == [(0, 5), (10, 15)]
    with pytest.raises(UsageError, match="'a cat' does not occur"):
        given_phrases(text, ["a cat"])


@pytest.mark.parametrize(("depth", "contrast"), [(0, "words"), (0, "captions"), (1, "words")])
def test_what_is_found_lies_in_the_image_best_first(depth: int, contrast: str) -> None:
    model = small_grounder(depth, contrast=contrast)
    picture = media.Image(np.asarray(image().to_pillow().resize((59, 31))))
    found = find_phrases(model, picture, "the red square and the blue square")
    assert [one.region.phrase for one in found] == ["the red square", "the blue square"]
    for one in found:
        assert 1 <= len(one.boxes) <= NUM_BOXES
        assert (one.boxes >= 0).all()
        assert (one.boxes <= [59, 31, 59, 31]).all()
        assert (np.diff(one.scores) <= 1e-6).all() or contrast == "captions"
        assert one.heat.shape == (model.grid, model.grid)
        if depth:
            assert 0 <= one.score <= 1
            assert one.is_there == (one.score >= 0.5)
    assert model.training  # as it was


def test_the_order_of_phrases_does_not_matter() -> None:
    model, text = small_grounder(), "the red square left of the blue square"
    both = find_phrases(model, image(), text, ["the red square", "the blue square"])
    turned = find_phrases(model, image(), text, ["the blue square", "the red square"])
    for one, other in zip(both, turned[::-1], strict=True):
        assert np.allclose(one.boxes, other.boxes, atol=1e-3)


def test_words_that_mean_themselves_alone_look_for_the_first_noun() -> None:
    model, text = small_grounder(0), "the red square left of the blue square"
    (whole,), (head,) = (find_phrases(model, image(), text, [part]) for part in (text, "the red square"))
    assert whole.region.phrase == text
    assert np.array_equal(whole.heat, head.heat)
    (other,) = find_phrases(model, image(), text, ["the blue square"])
    assert not np.allclose(other.heat, head.heat)


def test_without_boxes_what_stands_out_is_found_and_pointed_at() -> None:
    model, sample = small_grounder(0), square_sample(3, "s")
    truth = {box for region in sample.regions for box in region.boxes}
    for one in find_phrases(model, image(3), "the red square and the blue square"):
        assert {tuple(box) for box in one.boxes.tolist()} == truth
        (x0, y0, x1, y1), (x, y) = one.boxes[0], one.point
        assert x0 <= x <= x1
        assert y0 <= y <= y1
    (flat,) = find_phrases(model, media.Image(np.full((20, 50, 3), 90, np.uint8)), "a square")
    assert flat.boxes.tolist() == [[0, 0, 50, 20]]


def test_batches_of_images_are_found_as_each_alone() -> None:
    model = small_grounder()
    samples = [square_sample(number, "s") for number in range(3)]
    prepared = [prepare_row(sample, 0, model) for sample in samples]
    together = locate(model, prepared, [sample.regions for sample in samples])
    for sample, ready, found in zip(samples, prepared, together, strict=True):
        (alone,) = locate(model, [ready], [sample.regions])
        assert [one.region for one in found] == list(sample.regions)
        for one, other in zip(found, alone, strict=True):
            assert np.allclose(one.heat, other.heat, atol=1e-4)


def test_one_to_one_gives_each_box_once() -> None:
    model = small_grounder()
    text = "the red square and the green square and the blue square"
    found = find_phrases(model, image(), text, one_to_one=True)
    boxes = [tuple(one.boxes[0].tolist()) for one in found if one.is_there]
    assert len(boxes) == len(set(boxes))


def test_a_plain_dictionary_and_a_picture_come_of_it(tmp_path: Path) -> None:
    there = Detection(
        Region("a frog, a key", 0, 6),
        np.array([[1, 2, 11, 13], [20, 2, 30, 13], [5, 20, 9, 30]], np.float32),
        np.array([0.5, 0.4, 0.01], np.float32),
        0.9,
        True,
        (3.0, 4.0),
        torch.zeros(2, 2).numpy(),
    )
    gone = Detection(
        Region("a frog, a key", 8, 13), there.boxes, there.scores, 0.2, False, (0.0, 0.0), there.heat
    )
    assert there.as_dict() == {
        "phrase": "a frog",
        "span": [0, 6],
        "box": [1.0, 2.0, 11.0, 13.0],
        "boxes": [[1.0, 2.0, 11.0, 13.0], [20.0, 2.0, 30.0, 13.0]],
        "score": 0.9,
    }
    assert gone.as_dict()["box"] is None
    drawn = draw_boxes(image(), [there, gone])
    assert drawn.width > 700
    plain = draw_boxes(image(), [gone])
    colours = {color for _, color in drawn.getcolors(1 << 24) or ()}
    assert (214, 62, 56) in colours
    assert (214, 62, 56) not in {color for _, color in plain.getcolors(1 << 24) or ()}
