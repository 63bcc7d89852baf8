"""Answers are right by the scene's own record, as read by other rules; words alone do not tell them."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from composed_world.questions import NUMBERS, TYPES, Asker, Question, View, form_of, masks, questions
from composed_world.referring import Thing, plural

KINDS = ("frog", "key", "butterfly", "octopus", "snowman")
COLOURS = ("red", "blue", "orange")
SIDE, CLEAR = 97, 7.0
SINGULAR = {plural(kind): kind for kind in (*KINDS, "thing")}


def scene(number: int, most: int = 6) -> tuple[Thing, ...]:
    """Things at random places, often several of a kind."""
    rng = np.random.default_rng([31, number])
    kinds = rng.choice(KINDS[:4], 2)
    things = []
    for _ in range(int(rng.integers(3, most + 1))):
        x, y = rng.uniform(8, 89, 2).tolist()
        names = str(rng.choice(kinds)), str(rng.choice(COLOURS)), str(rng.choice(["small", "large"]))
        things.append(Thing(*names, (x - 7, y - 5, x + 7, y + 5)))
    return tuple(things)


def view(things: tuple[Thing, ...]) -> View:
    return View(things, COLOURS, KINDS, SIDE, CLEAR)


def places(phrase: str, things: tuple[Thing, ...]) -> list[int]:
    """Things that a noun phrase without relation names, read word by word."""
    words = [SINGULAR.get(word, word) for word in phrase.split() if word not in ("a", "an", "the")]
    return [
        place
        for place, thing in enumerate(things)
        if all(word in ("thing", thing.kind, thing.colour, thing.size) for word in words)
    ]


def only(phrase: str, things: tuple[Thing, ...]) -> Thing:
    found = places(phrase, things)
    assert len(found) == 1, phrase
    return things[found[0]]


def is_beyond(one: Thing, relation: str, other: Thing) -> bool:
    (x, y), (u, v) = one.centre, other.centre
    return {"left of": x < u, "right of": x > u, "above": y < v, "below": y > v}[relation]


def half(thing: Thing, vertical: bool) -> str:
    x, y = thing.centre
    return ("top" if y < SIDE / 2 else "bottom") if vertical else ("left" if x < SIDE / 2 else "right")


def quarter(thing: Thing) -> str:
    return f"{half(thing, True)} {half(thing, False)}"


def answer_of(text: str, things: tuple[Thing, ...]) -> str:
    """What a person who knows the scene would say, from the words of the question alone."""
    relation = r"(left of|right of|above|below)"
    if found := re.fullmatch(r"What colour is (.+)\?", text):
        return only(found[1], things).colour
    if found := re.fullmatch(r"How many (.+) are there\?", text):
        return NUMBERS[len(places(found[1], things))]
    if found := re.fullmatch(r"Is there (.+)\?", text):
        return "yes" if places(found[1], things) else "no"
    if found := re.fullmatch(r"Where is (.+)\?", text):
        return quarter(only(found[1], things))
    if found := re.fullmatch(r"What is at the (.+)\?", text):
        there = [thing for thing in things if quarter(thing) == found[1]]
        assert len(there) == 1
        return there[0].kind
    if found := re.fullmatch(rf"What is {relation} (.+)\?", text):
        anchor = only(found[2], things)
        there = [thing for thing in things if thing is not anchor and is_beyond(thing, found[1], anchor)]
        assert len(there) == 1
        return there[0].kind
    if found := re.fullmatch(r"What is (.+)\?", text):
        return only(found[1], things).kind
    if found := re.fullmatch(r"Is (.+) (on the left or on the right|at the top or at the bottom)\?", text):
        return half(only(found[1], things), vertical="top" in found[2])
    if found := re.fullmatch(r"Is (.+) (left or right of|above or below) (.+)\?", text):
        first, second = ("left", "right") if "left" in found[2] else ("above", "below")
        word = f"{first} of" if first == "left" else first
        return first if is_beyond(only(found[1], things), word, only(found[3], things)) else second
    found = re.fullmatch(rf"Is (.+?) {relation} (.+)\?", text)
    assert found is not None, text
    return "yes" if is_beyond(only(found[1], things), found[2], only(found[3], things)) else "no"


def test_every_answer_is_right_by_the_scene() -> None:
    types: Counter[str] = Counter()
    for number in range(23):
        things = scene(number)
        for one in questions(view(things)):
            assert answer_of(one.text, things) == one.answer, (one, things)
            types[one.type] += 1
    assert set(types) == set(TYPES)


def test_the_check_can_fail() -> None:
    things = scene(3)
    mirrored = tuple(
        Thing(one.kind, one.colour, one.size, (SIDE - x1, y0, SIDE - x0, y1))
        for one in things
        for x0, y0, x1, y1 in [one.box]
    )
    wrong = [one for one in questions(view(things)) if answer_of_or_none(one, mirrored) != one.answer]
    assert {one.type for one in wrong} == {"position", "relation"}


def answer_of_or_none(one: Question, things: tuple[Thing, ...]) -> str | None:
    try:
        return answer_of(one.text, things)
    except AssertionError:
        return None


def test_no_line_is_too_near_to_tell() -> None:
    near = (
        Thing("frog", "red", "small", (40.0, 40.0, 50.0, 50.0)),
        Thing("key", "blue", "large", (43.0, 60.0, 53.0, 80.0)),
    )
    texts = {one.text for one in questions(view(near))}
    assert not {text for text in texts if "left" in text or "right" in text or "Where" in text}
    assert "Is the frog above the key?" in texts
    assert "Is the key at the top or at the bottom?" in texts


def test_what_a_question_is_about_is_said() -> None:
    things = (
        Thing("frog", "red", "small", (3.0, 3.0, 11.0, 11.0)),
        Thing("frog", "blue", "large", (60.0, 60.0, 83.0, 83.0)),
    )
    about = {one.text: one.about for one in questions(view(things))}
    assert about["What colour is the large frog?"] == {("frog", "blue")}
    assert about["Is there an orange frog?"] == {("frog", "orange")}
    assert about["How many frogs are there?"] == {("frog", "red"), ("frog", "blue")}
    assert about["Is there a key?"] == {("key", "")}
    assert about["Is the red frog above the blue frog?"] == {("frog", "red"), ("frog", "blue")}


def asked(num: int, per_type: int = 2) -> list[Question]:
    asker = Asker(per_type)
    chosen: list[Question] = []
    for number in range(num):
        found = asker.choose(questions(view(scene(number, most=4))), np.random.default_rng([7, number]))
        assert max(Counter(one.type for one in found).values()) <= per_type
        assert len({one.text for one in found}) == len(found)
        chosen += found
    return chosen


def test_answers_of_a_form_are_equally_frequent() -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    needed: dict[str, tuple[str, ...]] = {}
    chosen = asked(43)
    for one in chosen:
        counts[one.form][one.answer] += 1
        needed[one.form] = one.answers
    for form, answers in needed.items():
        if answers:
            assert max(counts[form].values()) - min(counts[form][answer] for answer in answers) <= 3
    for type in ("relation", "presence"):
        closed = [one.answer == "yes" for one in chosen if one.type == type and "yes" in one.answers]
        assert 0.4 < np.mean(closed) < 0.6


def test_equal_scenes_give_equal_questions() -> None:
    assert asked(7) == asked(7)
    assert asked(3) == asked(7)[: len(asked(3))]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("What colour is the small octopus?", "What colour is the SIZE KIND?"),
        ("How many red butterflies are there?", "How many COLOUR KIND are there?"),
        ("Is there an orange thing?", "Is there a COLOUR thing?"),
    ],
)
def test_a_form_says_nothing_of_the_scene(text: str, form: str) -> None:
    assert form_of(text, masks(KINDS, COLOURS)) == form
