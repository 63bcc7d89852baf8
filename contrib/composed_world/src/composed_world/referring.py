"""Referring expressions: phrases for things in a scene, and the things that they denote.

Input: things with kind, colour, size and box. Output: phrases that denote one thing, a group or nothing,
each with the indices of the things. `Description.denotes` decides by meaning which things a phrase denotes,
so each phrase is checked against its scene. Relations are used only if no centre is too near the dividing
line.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

Box = tuple[float, float, float, float]
COUNTS = ("no", "one", "two", "three", "four", "five", "six")
RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
"""Relation to (axis, sign): a is left of b if its centre is smaller along axis 0."""


@dataclass(frozen=True)
class Thing:
    """A thing of a scene: kind, colour, size, and box (x0, y0, x1, y1) in pixels."""

    kind: str
    colour: str
    size: str
    box: Box

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box, (x, y)."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


@dataclass(frozen=True)
class Description:
    """Meaning of a phrase.

    Attributes:
        kind: Kind of the things; "" = any.
        colour: "" = not said.
        size: "" = not said.
        relation: One of `RELATIONS`; "" = not said.
        anchor: The thing that the relation refers to.
        count: Number of things; 1 = "the frog", 2 = "the two frogs".
    """

    kind: str = ""
    colour: str = ""
    size: str = ""
    relation: str = ""
    anchor: Description | None = None
    count: int = 1

    def denotes(self, things: Sequence[Thing], clear_px: float = 0.0) -> list[int] | None:
        """Find the things that this describes.

        Args:
            things: The scene.
            clear_px: Minimum distance of two centres to count as left, right, above or below.

        Returns:
            Their indices, or None if it is ambiguous: the anchor is not one thing, or a candidate is within
            `clear_px` of the line.
        """
        fitting = [place for place, thing in enumerate(things) if self._fits(thing)]
        if not self.relation or self.anchor is None:
            return fitting
        anchors = self.anchor.denotes(things, clear_px)
        if anchors is None or len(anchors) != 1:
            return None
        axis, sign = RELATIONS[self.relation]
        middle = things[anchors[0]].centre[axis]
        beyond = {
            place: sign * (things[place].centre[axis] - middle) for place in fitting if place != anchors[0]
        }
        if any(abs(by) < clear_px for by in beyond.values()):
            return None
        return [place for place, by in beyond.items() if by > 0]

    def head(self, article: str = "the") -> str:
        """The noun phrase without its relation: "the two small red frogs"."""
        noun = self.kind or "thing"
        words = [article if self.count == 1 or article == "the" else "", self._counted(), self.size]
        words += [self.colour, noun if self.count == 1 else plural(noun)]
        return " ".join(word for word in words if word)

    @property
    def text(self) -> str:
        """The whole phrase: "the red frog left of the key"."""
        if not self.relation or self.anchor is None:
            return self.head()
        return f"{self.head()} {self.relation} {self.anchor.text}"

    def _counted(self) -> str:
        return COUNTS[self.count] if self.count != 1 else ""

    def _fits(self, thing: Thing) -> bool:
        said = ((self.kind, thing.kind), (self.colour, thing.colour), (self.size, thing.size))
        return all(not word or word == fact for word, fact in said)


@dataclass(frozen=True)
class Expression:
    """A description and the things that it denotes.

    Attributes:
        description: The description.
        places: Indices of the things; empty: nothing is denoted.
        type: name, full, colour, size, relation, count or absent: what one must understand to find them.
    """

    description: Description
    places: tuple[int, ...]
    type: str


def expressions(things: Sequence[Thing], clear_px: float) -> Iterator[Expression]:
    """Yield expressions that denote one thing or a group, mostly without redundant words.

    Args:
        things: The scene.
        clear_px: See `Description.denotes`.
    """
    yield from by_words(things)
    yield from _by_relation(things, clear_px)
    yield from _by_count(things)


def by_words(things: Sequence[Thing]) -> Iterator[Expression]:
    """By kind, and by colour or size if the kind is ambiguous; always by kind and colour."""
    for place, thing in enumerate(things):
        name = Description(thing.kind)
        if name.denotes(things) == [place]:
            yield Expression(name, (place,), "name")
            yield Expression(replace(name, colour=thing.colour), (place,), "full")
            continue
        for said, type in (
            (replace(name, colour=thing.colour), "colour"),
            (replace(name, size=thing.size), "size"),
            (Description(colour=thing.colour), "colour"),
        ):
            if said.denotes(things) == [place]:
                yield Expression(said, (place,), type)


def near_misses(things: Sequence[Thing], palette: Sequence[str]) -> Iterator[Expression]:
    """Yield descriptions of missing things whose kind or colour is in the scene."""
    kinds = list(dict.fromkeys(thing.kind for thing in things))
    for kind, colour in itertools.product(kinds, palette):
        missing = Description(kind, colour)
        if not missing.denotes(things):
            yield Expression(missing, (), "absent")


def plural(noun: str) -> str:
    """Plural by the regular rules, and for words in "man".

    Example:
        >>> [plural(noun) for noun in ("frog", "butterfly", "octopus", "key", "snowman")]
        ['frogs', 'butterflies', 'octopuses', 'keys', 'snowmen']
    """
    if noun.endswith("man"):
        return f"{noun[:-3]}men"
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def _by_relation(things: Sequence[Thing], clear_px: float) -> Iterator[Expression]:
    """By relation, if kind and colour denote several things of which one fulfils it."""
    anchors = [one for one in by_words(things) if one.type in ("name", "colour") and one.description.kind]
    heads = {Description(thing.kind) for thing in things} | {Description(t.kind, t.colour) for t in things}
    several = [
        head for head in sorted(heads, key=lambda one: one.text) if len(head.denotes(things) or ()) > 1
    ]
    for head, anchor, relation in itertools.product(several, anchors, RELATIONS):
        said = replace(head, relation=relation, anchor=anchor.description)
        found = said.denotes(things, clear_px)
        if found is not None and len(found) == 1 and anchor.description.kind != head.kind:
            yield Expression(said, tuple(found), "relation")


def _by_count(things: Sequence[Thing]) -> Iterator[Expression]:
    for kind in dict.fromkeys(thing.kind for thing in things):
        colours = {thing.colour for thing in things if thing.kind == kind}
        for said in (Description(kind), *(Description(kind, colour) for colour in sorted(colours))):
            found = said.denotes(things) or []
            if 1 < len(found) < len(COUNTS):
                yield Expression(replace(said, count=len(found)), tuple(found), "count")


def choose(found: Sequence[Expression], rng: np.random.Generator, per_type: int = 1) -> list[Expression]:
    """Choose up to `per_type` expressions of each type."""
    chosen: list[Expression] = []
    for type in sorted({one.type for one in found}):
        of_type = [one for one in found if one.type == type]
        order = rng.permutation(len(of_type))[:per_type]
        chosen += [of_type[place] for place in order]
    return chosen
