"""Generates questions about scenes with short answers, balanced so that the words alone say little.

Input: things with kind, colour, size and box. Output: questions of six types: colour, kind, count,
position, relation, presence. `Asker` chooses among them. Without the image one can guess the commonest
answer of a form ("How many KIND are there?"). So the answers of each form are kept equally frequent, as
CLEVR (arXiv:1612.06890, section 3.3) and GQA (arXiv:1902.09506, section 3.5) do by rejection.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from composed_world.referring import (
    RELATIONS,
    Description,
    Expression,
    Thing,
    by_words,
    near_misses,
    plural,
)

TYPES = ("colour", "kind", "count", "position", "relation", "presence")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
_COUNTED_UP_TO = 3
"""Maximum count in counting questions: larger counts are too rare to balance."""
_NUMBERS_OF_THINGS = ("three", "four", "five")
_SLACK = 2
"""Maximum lead of an answer over the rarest one of its form."""
_YES_NO = ("yes", "no")
_HALVES = (("left", "right"), ("top", "bottom"))
_QUARTERS = tuple(f"{vertical} {horizontal}" for vertical in _HALVES[1] for horizontal in _HALVES[0])
_OTHER_MASKS = {"small": "SIZE", "large": "SIZE", "an": "a"}

Pair = tuple[str, str]
"""Kind and colour."""


@dataclass(frozen=True)
class Question:
    """A question and its answer.

    Attributes:
        text: "What colour is the small frog?"
        answer: One or two words, lower case.
        type: One of `TYPES`.
        form: The text with placeholders: "What colour is the SIZE KIND?"; answers of one form are
            balanced.
        answers: Answers to balance in a form; empty: all.
        about: Kind and colour of the things in question, also of missing ones ("": not said).
    """

    text: str
    answer: str
    type: str
    form: str
    answers: tuple[str, ...] = ()
    about: frozenset[Pair] = frozenset()


@dataclass(frozen=True)
class View:
    """A scene, with the words for questions.

    Attributes:
        things: The scene.
        palette: All colours.
        kinds: Kinds that questions about missing things may name.
        size_px: Side of the image.
        clear_px: Minimum distance of a centre from a line to be on one side of it.
    """

    things: Sequence[Thing]
    palette: Sequence[str]
    kinds: Sequence[str]
    size_px: int
    clear_px: float

    @cached_property
    def masks(self) -> dict[str, str]:
        """Placeholders of these kinds and colours, for `form_of`."""
        return masks([*self.kinds, *(thing.kind for thing in self.things)], self.palette)


@dataclass
class Asker:
    """Chooses questions, and keeps the answers of each form balanced over all scenes so far.

    Attributes:
        per_type: Maximum number of questions of each type for one scene.
    """

    per_type: int = 2
    _asked: dict[str, Counter[str]] = field(default_factory=dict)

    def choose(self, found: Iterable[Question], rng: np.random.Generator) -> list[Question]:
        """Choose questions about one scene: forms at random, of each the question with the rarest answer.

        A question whose answer leads the others of its form by too much is left out. The choice depends on
        earlier scenes.
        """
        by_type: dict[str, dict[str, list[Question]]] = {}
        for one in found:
            by_type.setdefault(one.type, {}).setdefault(one.form, []).append(one)
        chosen: list[Question] = []
        for type in TYPES:
            forms = by_type.get(type, {})
            order = [sorted(forms)[place] for place in rng.permutation(len(forms))]
            picked = [one for form in order for one in self._pick(forms[form], rng)]
            chosen += picked[: self.per_type]
        for one in chosen:
            self._asked.setdefault(one.form, Counter())[one.answer] += 1
        return chosen

    def _pick(self, options: Sequence[Question], rng: np.random.Generator) -> list[Question]:
        """One of the questions of a form, or none."""
        counts = self._asked.get(options[0].form, Counter())
        if options[0].answers:
            rarest = min(counts[one.answer] for one in options)
            if rarest > min(counts[answer] for answer in options[0].answers) + _SLACK:
                return []
            options = [one for one in options if counts[one.answer] == rarest]
        return [options[int(rng.integers(len(options)))]]


def questions(view: View) -> Iterator[Question]:
    """Yield all unambiguous questions: about one thing or a count, with no centre near a dividing line."""
    for ask in (_colours, _kinds, _counts, _places, _relations, _presences):
        yield from ask(view)


def _colours(view: View) -> Iterator[Question]:
    for one in _named(view):
        if not one.description.colour:
            text = f"What colour is {one.description.text}?"
            colour = view.things[one.places[0]].colour
            yield _question(view, "colour", text, colour, view.palette, one.places)


def _kinds(view: View) -> Iterator[Question]:
    for place, thing in enumerate(view.things):
        for said in (Description(colour=thing.colour), Description(colour=thing.colour, size=thing.size)):
            if said.denotes(view.things) == [place]:
                yield _question(view, "kind", f"What is {said.text}?", thing.kind, (), (place,))
                break


def _counts(view: View) -> Iterator[Question]:
    few = NUMBERS[: _COUNTED_UP_TO + 1]
    asked = {Description(thing.kind): None for thing in view.things}
    asked |= {Description(colour=colour): None for colour in view.palette}
    asked |= {Description(thing.kind, thing.colour): None for thing in view.things}
    asked |= {one.description: None for one in near_misses(view.things, view.palette)}
    asked |= {Description(kind): None for kind in view.kinds}
    for said in asked:
        found = said.denotes(view.things) or []
        if len(found) <= _COUNTED_UP_TO:
            text = f"How many {_plural(said)} are there?"
            yield _question(view, "count", text, NUMBERS[len(found)], few, found, said)
    if len(view.things) < len(NUMBERS):
        number = NUMBERS[len(view.things)]
        yield _question(view, "count", "How many things are there?", number, _NUMBERS_OF_THINGS, ())


def _places(view: View) -> Iterator[Question]:
    """Half or quarter of the image that a thing is in, and the thing in a quarter."""
    middle = view.size_px / 2
    for one in _named(view):
        halves = _halves(view.things[one.places[0]], middle, view.clear_px)
        name = one.description.text
        for axis, asked in enumerate(("on the left or on the right", "at the top or at the bottom")):
            if halves[axis]:
                text = f"Is {name} {asked}?"
                yield _question(view, "position", text, halves[axis], _HALVES[axis], one.places)
        if all(halves):
            text = f"Where is {name}?"
            yield _question(view, "position", text, _quarter(halves), _QUARTERS, one.places)
    yield from _what_lies_where(view, middle)


def _what_lies_where(view: View, middle: float) -> Iterator[Question]:
    halves = [_halves(thing, middle, view.clear_px) for thing in view.things]
    for quarter in _QUARTERS if all(all(pair) for pair in halves) else ():
        there = [place for place, pair in enumerate(halves) if _quarter(pair) == quarter]
        if len(there) == 1:
            text = f"What is at the {quarter}?"
            yield _question(view, "position", text, view.things[there[0]].kind, (), there)


def _relations(view: View) -> Iterator[Question]:
    """Whether one thing is left of another, on which side it is, and what is left of a thing."""
    named = [one for one in _named(view) if one.type != "full"]  # no redundant words
    for anchor in named:
        where, kind = anchor.places[0], view.things[anchor.places[0]].kind
        for relation, (axis, sign) in RELATIONS.items():
            beyond = Description(relation=relation, anchor=anchor.description)
            found = beyond.denotes(view.things, view.clear_px) or []
            if len(found) == 1 and view.things[found[0]].kind != kind:
                text = f"What is {relation} {anchor.description.text}?"
                yield _question(view, "relation", text, view.things[found[0]].kind, (), (*found, where))
            for one in named:
                by = _beyond(view, one, anchor, axis) * sign
                if one.places == anchor.places or abs(by) < view.clear_px:
                    continue
                text = f"Is {one.description.text} {relation} {anchor.description.text}?"
                places = (*one.places, where)
                yield _question(view, "relation", text, _YES_NO[by < 0], _YES_NO, places)
                if sign < 0:
                    yield _either(view, one, anchor, axis, by > 0)


def _either(view: View, one: Expression, anchor: Expression, axis: int, is_first: bool) -> Question:
    words, answers = (("left or right of", ("left", "right")), ("above or below", ("above", "below")))[axis]
    text = f"Is {one.description.text} {words} {anchor.description.text}?"
    answer = answers[0] if is_first else answers[1]
    return _question(view, "relation", text, answer, answers, (*one.places, *anchor.places))


def _presences(view: View) -> Iterator[Question]:
    """Things that are there, and missing things whose kind or colour is there."""
    asked = {Description(thing.kind): None for thing in view.things}
    asked |= {Description(thing.kind, thing.colour): None for thing in view.things}
    asked |= {Description(colour=colour): None for colour in view.palette}
    asked |= {one.description: None for one in near_misses(view.things, view.palette)}
    asked |= {Description(kind): None for kind in view.kinds}
    for said in asked:
        found = said.denotes(view.things) or []
        text = f"Is there {said.head(_article(said))}?"
        yield _question(view, "presence", text, _YES_NO[not found], _YES_NO, found, said)


def _named(view: View) -> Iterator[Expression]:
    """Noun phrases with a kind that denote one thing."""
    return (one for one in by_words(view.things) if one.description.kind)


def _question(
    view: View,
    type: str,
    text: str,
    answer: str,
    answers: Sequence[str],
    places: Iterable[int],
    missing: Description | None = None,
) -> Question:
    """Build a question about the things at `places`, or about what is `missing`."""
    about = {(view.things[place].kind, view.things[place].colour) for place in places}
    if not about and missing is not None:
        about = {(missing.kind, missing.colour)}
    return Question(text, answer, type, form_of(text, view.masks), tuple(answers), frozenset(about))


def form_of(text: str, masks: Mapping[str, str]) -> str:
    """Replace kinds, colours and sizes in a question by placeholders.

    Example:
        >>> form_of("Is an orange key left of the small frog?", masks(["frog", "key"], ["orange"]))
        'Is a COLOUR KIND left of the SIZE KIND?'
    """
    return re.sub(r"\w+", lambda found: masks.get(found[0], found[0]), text)


def masks(kinds: Iterable[str], palette: Iterable[str]) -> dict[str, str]:
    """Placeholder of each word, for `form_of`."""
    named = [word for kind in kinds for word in (kind, plural(kind))]
    return dict.fromkeys(named, "KIND") | dict.fromkeys(palette, "COLOUR") | _OTHER_MASKS


def _plural(said: Description) -> str:
    return replace(said, kind=plural(said.kind or "thing")).head("").strip()


def _article(said: Description) -> str:
    return "an" if (said.colour or said.kind)[0] in "aeiou" else "a"


def _halves(thing: Thing, middle: float, clear_px: float) -> tuple[str, str]:
    """Left or right, top or bottom; "" if the centre is too near the middle."""
    beyond = [value - middle for value in thing.centre]
    sides = [names[by > 0] if abs(by) >= clear_px else "" for names, by in zip(_HALVES, beyond, strict=True)]
    return sides[0], sides[1]


def _quarter(halves: tuple[str, str]) -> str:
    return f"{halves[1]} {halves[0]}"


def _beyond(view: View, one: Expression, anchor: Expression, axis: int) -> float:
    """Signed distance of two centres along an axis; x to the right, y down."""
    return view.things[one.places[0]].centre[axis] - view.things[anchor.places[0]].centre[axis]
