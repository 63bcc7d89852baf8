"""Rows of scenes: a phrase names what its boxes hold; what was held out is not said in training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from composed_world.questions import TYPES
from composed_world.referring import Thing
from composed_world.scene_captions import caption, inventory, whereabouts
from composed_world.scenes import Composer, Layout
from composed_world.scenes_table import Plan, load_pictures, make_scenes, scene_samples
from sensorium.core.errors import TableError, UsageError
from sensorium.data.questions import questions_of
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table

KINDS = ("frog", "key", "bell", "owl", "bus")


def composer(seed: int = 3) -> Composer:
    rng = np.random.default_rng(0)
    pictures = {
        kind: [np.dstack([rng.integers(0, 200, (17, 13, 3)), np.full((17, 13), 255)]).astype(np.uint8)]
        for kind in KINDS
    }
    return Composer(
        pictures, held_out_kinds=["bus"], held_out_share=0.2, layout=Layout(size_px=61), seed=seed
    )


@pytest.fixture(scope="module")
def rows() -> list[Sample]:
    return list(scene_samples(composer(), Plan(num_train=23, num_test=7)))


def things_of(row: Sample) -> list[Thing]:
    found = json.loads(str(row.meta["things"]))
    return [Thing(one["kind"], one["colour"], one["size"], tuple(one["box"])) for one in found]


def test_every_region_has_a_type_and_boxes_of_things(rows: list[Sample]) -> None:
    for row in rows:
        types = str(row.meta["types"]).split()
        assert len(types) == len(row.regions)
        boxes = {thing.box for thing in things_of(row)}
        for region, type in zip(row.regions, types, strict=True):
            assert set(region.boxes) <= boxes
            assert region.phrase.strip() == region.phrase
            if type == "absent":
                assert not region.boxes
            elif type != "caption":
                assert region.boxes


def test_the_words_of_a_phrase_are_true_of_each_thing_it_names(rows: list[Sample]) -> None:
    for row in rows:
        things = {thing.box: thing for thing in things_of(row)}
        for region, type in zip(row.regions, str(row.meta["types"]).split(), strict=True):
            words = region.phrase.split(" of ")[0].replace(" left", "").replace(" right", "").split()
            words = words[
                : next((n for n, word in enumerate(words) if word in ("above", "below")), len(words))
            ]
            for box in region.boxes:
                thing = things[box]
                said = {word for word in words if word in composer().palette or word in ("small", "large")}
                assert said <= {thing.colour, thing.size}
                assert any(word.startswith(thing.kind[:3]) for word in words) or "thing" in words
            if not region.boxes:
                described = {(thing.kind, thing.colour) for thing in things.values()}
                assert not any(kind in words and colour in words for kind, colour in described), type


def test_what_is_held_out_is_not_said_in_training(rows: list[Sample]) -> None:
    pairs = composer().held_out_pairs
    for row in rows:
        phrases = " ; ".join(region.text for region in row.regions)
        if row.source in ("scenes", "scenes-seen"):
            assert "bus" not in phrases
            assert not any(f"{colour} {kind}" in phrases for kind, colour in pairs)
        if row.source == "scenes-combinations":
            present = [region for region in row.regions if region.boxes]
            assert all(any(f"{c} {k}" in region.text for k, c in pairs) for region in present)


def test_questions_stand_in_the_rows_and_are_about_what_their_part_is_about(rows: list[Sample]) -> None:
    pairs, seen = composer().held_out_pairs, set()
    for row in rows:
        assert questions_of(row)
        for one in questions_of(row):
            seen.add(one.type)
            said = f"{one.question} {one.answer}"
            pair = {
                (kind, colour)
                for kind, colour in pairs
                if f"{colour} {kind}" in said
                or (one.type in ("kind", "colour") and kind in said and colour in said)
            }
            if row.source in ("scenes", "scenes-seen"):
                assert not pair
                assert "bus" not in said
            elif row.source == "scenes-objects" and one.type in ("kind", "colour"):
                assert "bus" in said
            elif row.source == "scenes-combinations" and one.type == "kind":
                assert pair
    assert seen == set(TYPES)


def test_rows_without_questions_have_none(rows: list[Sample]) -> None:
    meta = {key: value for key, value in rows[0].meta.items() if key != "questions"}
    assert questions_of(replace(rows[0], meta=meta)) == []
    assert replace(rows[0], meta=meta).id == rows[0].id
    with pytest.raises(TableError, match="cannot read its questions"):
        questions_of(replace(rows[0], meta={"questions": '["what?"]'}))


def test_captions_list_everything_once() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    things = (
        Thing("frog", "red", "small", box),
        Thing("owl", "orange", "large", box),
        Thing("frog", "red", "large", box),
    )
    text, spans = caption(inventory(things))
    assert text == "two red frogs and an orange owl"
    assert [(text[start:end], places) for start, end, places in spans] == [
        ("two red frogs", (0, 2)),
        ("an orange owl", (1,)),
    ]
    assert caption(inventory(things, []))[0] == "two frogs and an owl"
    assert caption(inventory(things, ["colour", "size"]))[0] == (
        "the small red frog, the large orange owl and the large red frog"
    )


def test_whereabouts_tell_the_third_of_each_middle() -> None:
    def thing(kind: str, x: float, y: float) -> Thing:
        return Thing(kind, "orange", "small", (x - 2.0, y - 2.0, x + 2.0, y + 2.0))

    assert whereabouts([thing("owl", 15.0, 15.0)], 90.0) == "a small orange owl at the top left"
    told = whereabouts([thing("owl", 45.0, 45.0), thing("bus", 85.0, 45.0), thing("key", 45.0, 88.0)], 90.0)
    assert told == (
        "a small orange owl in the middle, a small orange bus at the right "
        "and a small orange key at the bottom"
    )


def test_captions_say_what_is_asked_for(rows: list[Sample]) -> None:
    asked = Plan(num_train=3, num_test=1, captions=("place", "colour"))
    for row, usual in zip(scene_samples(composer(), asked), rows, strict=False):
        placed, coloured = (one.text for one in row.texts)
        assert placed == whereabouts(things_of(row), 61.0)
        assert coloured == caption(inventory(things_of(row)))[0]
        if row.uri == usual.uri:
            assert [coloured] == [one.text for one in usual.texts[:1]]
            assert (row.image, row.regions) == (usual.image, usual.regions)
    with pytest.raises(UsageError, match="no captions that say 'shape'"):
        make_scenes("unused.lance", Plan(captions=("place", "shape")))


def test_equal_seeds_give_equal_rows_and_parts_are_sources(rows: list[Sample], tmp_path: Path) -> None:
    again = list(scene_samples(composer(), Plan(num_train=3, num_test=1)))
    assert [row.id for row in again[:3]] == [row.id for row in rows[:3]]
    assert [row.source for row in again] == ["scenes"] * 3 + [
        "scenes-seen",
        "scenes-combinations",
        "scenes-objects",
    ]
    table = Table.create(tmp_path / "t.lance")
    assert table.add(rows) == len(rows)
    assert table.rows([5])[0].regions == rows[5].regions


def test_unknown_sources_of_pictures_are_refused() -> None:
    with pytest.raises(UsageError, match="no images from 'photos'"):
        load_pictures(["emoji", "photos"])


@pytest.mark.slow
def test_digits_are_pictures_too() -> None:
    digits = load_pictures(["digits"])
    assert list(digits)[3] == "three"
    assert all(len(pictures) == 8 and pictures[0].shape[2] == 4 for pictures in digits.values())
