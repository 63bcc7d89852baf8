"""Captions of scenes: the things with colour, size and place, and the spans of their phrases.

Input: things of a scene. Output: a caption, and for each phrase the things that it names. For expressions
that single out one thing, see `referring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from composed_world.referring import Description, Thing

SAYINGS = ("colour", "size", "place")
"""Levels of detail of a caption: colour; colour and size; also the place of each thing."""
Listed = list[tuple[Description, tuple[int, ...]]]
"""Descriptions and the indices of the things that they name."""


def inventory(things: Sequence[Thing], said: Sequence[str] = ("colour",)) -> Listed:
    """List the things of a scene; things with equal descriptions are grouped.

    Args:
        things: The scene.
        said: Properties to name besides the kind: colour, size.
    """
    alike: dict[Description, list[int]] = {}
    for place, thing in enumerate(things):
        colour, size = (thing.colour if "colour" in said else ""), (thing.size if "size" in said else "")
        alike.setdefault(Description(thing.kind, colour, size), []).append(place)
    return [(replace(words, count=len(places)), tuple(places)) for words, places in alike.items()]


def caption(listed: Listed) -> tuple[str, list[tuple[int, int, tuple[int, ...]]]]:
    """Write a list as a caption: "a red frog, two blue keys and a green bell".

    Returns:
        The text, and for each phrase its start, its end and the things that it names.
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
    """Describe each thing with all properties: "a small red frog at the top left and a large ...".

    Args:
        things: The scene.
        size_px: Side of the image; places are thirds of it.
    """
    named = [Description(thing.kind, thing.colour, thing.size).head("a") for thing in things]
    phrases = [f"{name} {_where(thing, size_px)}" for name, thing in zip(named, things, strict=True)]
    return " and ".join([", ".join(phrases[:-1]), *phrases[-1:]] if len(phrases) > 1 else phrases)


def _where(thing: Thing, size_px: float) -> str:
    """Thirds of the image, in both directions, that a thing's centre is in."""
    across, down = (min(int(3 * at / size_px), 2) for at in thing.centre)
    words = " ".join(word for word in (("top", "", "bottom")[down], ("left", "", "right")[across]) if word)
    return f"at the {words}" if words else "in the middle"


def describe(things: Sequence[Thing], saying: str, size_px: float) -> str:
    """Caption a scene.

    Args:
        things: The scene.
        saying: Level of detail, one of `SAYINGS`.
        size_px: Side of the image.
    """
    if saying == "place":
        return whereabouts(things, size_px)
    return caption(inventory(things, SAYINGS[: SAYINGS.index(saying) + 1]))[0]
