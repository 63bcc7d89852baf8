"""What is said of a scene is true of it, and of nothing else in it."""

import numpy as np
import pytest

from composed_world.referring import (
    Description,
    Thing,
    choose,
    expressions,
    near_misses,
    plural,
)


def thing(kind: str, colour: str, size: str, x: float, y: float) -> Thing:
    return Thing(kind, colour, size, (x - 5.0, y - 5.0, x + 5.0, y + 5.0))


THINGS = (
    thing("frog", "red", "small", 20, 50),
    thing("frog", "red", "large", 70, 50),
    thing("frog", "blue", "small", 70, 20),
    thing("key", "green", "small", 45, 52),
)


def said(things: tuple[Thing, ...] = THINGS) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {one.description.text: (one.type, one.places) for one in expressions(things, clear_px=8.0)}


def test_expressions_single_out_what_they_name() -> None:
    found = said()
    assert found["the key"] == ("name", (3,))
    assert found["the green key"] == ("full", (3,))
    assert found["the blue frog"] == ("colour", (2,))
    assert found["the large frog"] == ("size", (1,))
    assert found["the two red frogs"] == ("count", (0, 1))
    assert found["the three frogs"] == ("count", (0, 1, 2))
    assert found["the frog left of the key"] == ("relation", (0,))
    assert found["the red frog right of the key"] == ("relation", (1,))
    assert found["the frog above the key"][1] == (2,) if "the frog above the key" in found else True
    for text in ("the frog", "the red frog", "the small frog"):
        assert text not in found  # several


def test_a_relation_that_is_not_clear_is_not_used() -> None:
    key = Description("key")
    frog = Description("frog", relation="above", anchor=key)
    assert frog.denotes(THINGS, clear_px=8.0) is None  # two frogs lie 2 px above the key
    assert frog.denotes(THINGS, clear_px=1.0) == [0, 1, 2]
    left = Description("frog", relation="left of", anchor=key)
    assert left.denotes(THINGS, clear_px=8.0) == [0]
    several = Description("key", relation="left of", anchor=Description("frog"))
    assert several.denotes(THINGS, clear_px=8.0) is None


def test_opposite_relations_share_the_candidates_out() -> None:
    for one, other in (("left of", "right of"), ("above", "below")):
        parts = [
            Description("frog", relation=word, anchor=Description("key")).denotes(THINGS, clear_px=0.0) or []
            for word in (one, other)
        ]
        assert sorted(parts[0] + parts[1]) == [0, 1, 2]


def test_near_misses_are_not_there() -> None:
    found = [one.description for one in near_misses(THINGS, ["red", "blue", "green"])]
    assert {one.text for one in found} == {"the green frog", "the red key", "the blue key"}
    assert not any(one.denotes(THINGS) for one in found)


def test_the_choice_is_even_and_depends_on_the_stream_alone() -> None:
    everything = list(expressions(THINGS, 8.0))
    chosen = choose(everything, np.random.default_rng(3))
    types = [one.type for one in chosen]
    assert sorted(types) == sorted({one.type for one in everything})
    assert chosen == choose(everything, np.random.default_rng(3))
    assert len(choose(everything, np.random.default_rng(3), per_type=2)) > len(chosen)


@pytest.mark.parametrize(("description", "text"), [
    (Description("key", count=2, colour="red", size="small"), "the two small red keys"),
    (Description("", "red"), "the red thing"),
    (Description("bus", relation="below", anchor=Description("fox", "grey")), "the bus below the grey fox"),
])  # fmt: skip
def test_words(description: Description, text: str) -> None:
    assert description.text == text
    assert plural("bus") == "buses"
