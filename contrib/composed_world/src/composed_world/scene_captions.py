"""Captions of scenes: what is there, of which colour and size, and where.

In: things. Out: lists in words, with what each phrase names. What can be said of one thing among others, so
that it is found: `align.referring`. Knows neither pixels nor models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from composed_world.referring import Description, Thing

SAYINGS = ("colour", "size", "place")
"""What a caption may say of things besides their kind: colour; colour and size; those and where each is."""
Listed = list[tuple[Description, tuple[int, ...]]]
"""Descriptions and the places of the things that they name."""


def inventory(things: Sequence[Thing], said: Sequence[str] = ("colour",)) -> Listed:
    """What is in a scene; things of which the same is said are named together.

    Args:
        things: The scene.
        said: What is said of things besides their kind: colour, size.
    """
    alike: dict[Description, list[int]] = {}
    for place, thing in enumerate(things):
        colour, size = (thing.colour if "colour" in said else ""), (thing.size if "size" in said else "")
        alike.setdefault(Description(thing.kind, colour, size), []).append(place)
    return [(replace(words, count=len(places)), tuple(places)) for words, places in alike.items()]


def caption(listed: Listed) -> tuple[str, list[tuple[int, int, tuple[int, ...]]]]:
    """Put a list into words: "a red frog, two blue keys and a green bell".

    Returns:
        The text, and for each phrase its first character, the one after its last, and the things it names.
    """
    text, spans = "", []
    for number, (words, places) in enumerate(listed):
        text += "" if number == 0 else " and " if number == len(listed) - 1 else ", "
        article = "the" if words.size else "an" if (words.colour or words.kind)[0] in "aeiou" else "a"
        phrase = words.head(article)
        spans.append((len(text), len(text) + len(phrase), places))
        text += phrase
    return text, spans


def whereabouts(things: Sequence[Thing], size_px: float) -> str:
    """Each thing by all that can be said of it alone: "a small red frog at the top left and a large ...".

    Args:
        things: The scene.
        size_px: Side of the picture; its thirds are told apart.
    """
    named = [Description(thing.kind, thing.colour, thing.size).head("a") for thing in things]
    phrases = [f"{name} {_where(thing, size_px)}" for name, thing in zip(named, things, strict=True)]
    return " and ".join([", ".join(phrases[:-1]), *phrases[-1:]] if len(phrases) > 1 else phrases)


def _where(thing: Thing, size_px: float) -> str:
    """The third of the picture, each way, that a thing's middle is in."""
    across, down = (min(int(3 * at / size_px), 2) for at in thing.centre)
    words = " ".join(word for word in (("top", "", "bottom")[down], ("left", "", "right")[across]) if word)
    return f"at the {words}" if words else "in the middle"


def describe(things: Sequence[Thing], saying: str, size_px: float) -> str:
    """The caption of a scene that says so much; see `SAYINGS`.

    Args:
        things: The scene.
        saying: One of them.
        size_px: Side of the picture.
    """
    if saying == "place":
        return whereabouts(things, size_px)
    return caption(inventory(things, SAYINGS[: SAYINGS.index(saying) + 1]))[0]
