"""English sentences for speech synthesis: about composed scenes, captions of stamps, prose, definitions.

Input: names of sources and a seed. Output: for each source a list of different texts; a longer list begins
with the shorter one. Sentences about scenes use things at random places, without images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from composed_world.questions import Asker, View, questions
from composed_world.referring import Thing
from composed_world.scene_captions import caption, inventory
from composed_world.scenes import PALETTE
from composed_world.scenes_table import HELD_OUT_KINDS, KINDS
from sensorium.align.text_lines import as_sentence
from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.data import collections as packages
from sensorium.data.collections import stamps, wordnet

_SIDE_PX, _CLEAR_PX, _THING_PX = 96, 8.0, 16.0


@dataclass(frozen=True)
class Source:
    """A source of sentences.

    Attributes:
        read: Returns at most a number of texts, by a seed.
        licence: Of the texts.
    """

    read: Callable[[int, int, Progress], Sequence[str]]
    licence: str


def sentences(name: str, num: int, seed: int = 0, progress: Progress = quiet) -> Sequence[str]:
    """Return at most `num` different texts of a source, in an order that depends on the seed.

    Raises:
        UsageError: If there is no such source.
        FetchError: If a package cannot be fetched.
    """
    return source(name).read(num, seed, progress)


def source(name: str) -> Source:
    """Return a source by name.

    Raises:
        UsageError: If there is none.
    """
    if name not in SOURCES:
        raise UsageError(f"no sentences from '{name}'; known: {', '.join(SOURCES)}")
    return SOURCES[name]


def _scenes(num: int, seed: int, progress: Progress) -> list[str]:
    texts: dict[str, None] = {}
    for text in _said_of_scenes(seed):
        texts[text] = None
        if len(texts) >= num:
            break
    return list(texts)


def _said_of_scenes(seed: int) -> Iterator[str]:
    """Yield sentences without end: for each scene two questions, their answers, and a caption."""
    asker, number = Asker(per_type=1), 0
    while True:
        rng = np.random.default_rng([seed, 23, number])
        things = _things(rng)
        view = View(things, list(PALETTE), KINDS, _SIDE_PX, _CLEAR_PX)
        asked = asker.choose(questions(view), rng)
        for place in rng.permutation(len(asked))[:2]:
            yield asked[place].text
            yield as_sentence(asked[place].answer)
        said = [["colour"], ["colour", "size"]][int(rng.integers(2))]
        yield as_sentence(caption(inventory(things, said))[0])
        number += 1


def _things(rng: np.random.Generator) -> list[Thing]:
    """Two to four things, sometimes two of one kind."""
    kinds = rng.choice([*KINDS, *HELD_OUT_KINDS], 3)
    corners = rng.uniform(0, _SIDE_PX - _THING_PX, (int(rng.integers(2, 5)), 2)).tolist()
    return [
        Thing(
            str(rng.choice(kinds)),
            str(rng.choice(list(PALETTE))),
            str(rng.choice(["small", "large"])),
            (x, y, x + _THING_PX, y + _THING_PX),
        )
        for x, y in corners
    ]


def _stamps(num: int, seed: int, progress: Progress) -> list[str]:
    table = packages.get("stamps", progress=progress)
    captions = dict.fromkeys(as_sentence(texts[0].text) for texts in table.column("texts"))
    return _shuffled([text for text in captions if not any(char.isdigit() for char in text)], num, seed)


def _prose(num: int, seed: int, progress: Progress) -> list[str]:
    return _shuffled(wordnet.sentences(progress), num, seed)


def _definitions(num: int, seed: int, progress: Progress) -> list[str]:
    return _shuffled(wordnet.definitions(progress), num, seed)


def _shuffled(texts: Sequence[str], num: int, seed: int) -> list[str]:
    order = np.random.default_rng([seed, 29]).permutation(len(texts))
    return [texts[place] for place in islice(order, num)]


SOURCES: dict[str, Source] = {
    "scenes": Source(_scenes, "CC0-1.0"),
    "stamps": Source(_stamps, stamps.LICENCE),
    "prose": Source(_prose, wordnet.LICENCE),
    "definitions": Source(_definitions, wordnet.LICENCE),
}
"""Sources by name."""
