"""Makes a media table of composed scenes, with captions, phrases with boxes, and questions.

Input: images of the stamps and emoji packages (optionally scikit-learn's digits), and a seed. Output: a
table whose rows are scenes. Their `source` is their part (`scenes`, `scenes-seen`, `scenes-combinations`,
`scenes-objects`); recipes hold out the last three. Each row has a caption and its regions. Its `meta` has
the type of each region, questions with answers (`data.questions`) and the things, from which other
questions can be made.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from composed_world import questions as asking
from composed_world.referring import (
    Expression,
    choose,
    expressions,
    near_misses,
)
from composed_world.scene_captions import SAYINGS, Listed, caption, describe, inventory
from composed_world.scenes import PARTS, Composer, Layout, Part, Scene, cut_out
from sensorium import media
from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet, require, track
from sensorium.data import collections as packages
from sensorium.data import questions
from sensorium.data.table.sample import Caption, Region, Sample, normalise
from sensorium.data.table.table import Table

KINDS = (
    "anchor banana bell bicycle butterfly cactus camera carrot chair crab crown dolphin drum elephant frog "
    "guitar hammer key ladder mushroom octopus pear penguin rocket sailboat snail snowman spider star turtle "
    "umbrella wrench"
).split()
HELD_OUT_KINDS = ("camel", "giraffe", "owl", "rabbit", "trumpet", "violin", "whale", "bus")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SOURCE_OF: dict[Part, str] = {part: "scenes" if part == "train" else f"scenes-{part}" for part in PARTS}
VENDORS = ("google", "twitter", "microsoft")
"""Emoji whose licences allow derived images."""
LICENCE = "GPL-2.0-only AND Apache-2.0 AND CC-BY-4.0 AND MIT"
_CLEAR = 0.08
"""Minimum distance of two centres to count as left, right, above or below, as a share of the image."""
_MISSING = 0.25
"""Share of the captions with colours, in training scenes, that also name a missing thing."""
_RELATIONS_TO_TRAIN_ON = 3
"""Maximum number of relation phrases in a training scene: they are the hardest to learn."""


@dataclass(frozen=True)
class Plan:
    """Options of a scenes table.

    Attributes:
        num_train: Number of training scenes.
        num_test: Number of scenes of each held-out part.
        size_px: Side of the images.
        pictures: Sources of the things: emoji, stamps, digits.
        num_things: Minimum and maximum number of things of a training scene; held-out scenes have 3 to 6.
        seed: Of all random choices.
        num_questions: Maximum number of questions of each type for a scene.
        captions: Levels of detail, one caption for each; see `SAYINGS`.
    """

    num_train: int = 20_000
    num_test: int = 1_000
    size_px: int = 96
    pictures: Sequence[str] = ("emoji", "stamps")
    num_things: tuple[int, int] = (3, 6)
    seed: int = 0
    num_questions: int = 2
    captions: Sequence[str] = ("colour", "size")


def make_scenes(path: str | Path, plan: Plan, progress: Progress = quiet) -> Table:
    """Make a table of scenes; equal plans give equal rows.

    Args:
        path: The table, which must not exist.
        plan: Options.
        progress: Told after each scene.

    Raises:
        UsageError: If a source of images or a level of detail is unknown.
        TableError: If `path` exists.
        FetchError: If a package cannot be fetched.
        MissingExtraError: If digits are asked for without scikit-learn.
    """
    unknown = [name for name in plan.captions if name not in SAYINGS]
    if unknown or not plan.captions:
        raise UsageError(f"no captions that say '{', '.join(unknown)}'; known: {', '.join(SAYINGS)}")
    composer = Composer(
        load_pictures(plan.pictures, progress),
        held_out_kinds=HELD_OUT_KINDS,
        layout=Layout(size_px=plan.size_px, num_to_train_on=plan.num_things),
        seed=plan.seed,
    )
    table = Table.create(path, description="Scenes composed of real pictures, with boxes", licence=LICENCE)
    table.add(scene_samples(composer, plan, progress))
    table.optimize()
    return table


def scene_samples(composer: Composer, plan: Plan, progress: Progress = quiet) -> Iterator[Sample]:
    """Yield the scenes of all parts as rows."""
    numbers = [
        (part, number)
        for part in PARTS
        for number in range(plan.num_train if part == "train" else plan.num_test)
    ]
    askers = {part: asking.Asker(plan.num_questions) for part in PARTS}
    for part, number in track(numbers, len(numbers), "composing scenes", progress):
        scene = composer.scene(part, number)
        rng = np.random.default_rng([composer.seed, 13, PARTS.index(part), number])
        asked = askers[part].choose(askable(scene, composer, part), rng)
        yield _sample(scene, composer, part, number, asked, plan.captions)


def askable(scene: Scene, composer: Composer, part: Part) -> Iterator[asking.Question]:
    """Yield the questions that a part may have about a scene.

    Training scenes and the part `seen` have no questions about held-out kinds or (kind, colour) pairs, not
    even about their presence. The held-out parts have no other questions.
    """
    size = composer.layout.size_px
    kinds = composer.held_out_kinds if part == "objects" else composer.known_kinds
    view = asking.View(scene.things, list(composer.palette), kinds, size, _CLEAR * size)
    for one in asking.questions(view):
        is_new_pair = any(pair in composer.held_out_pairs for pair in one.about)
        is_new_kind = any(kind in composer.held_out_kinds for kind, _ in one.about)
        wanted = {"combinations": is_new_pair, "objects": is_new_kind}
        if wanted.get(part, not (is_new_pair or is_new_kind)):
            yield one


def load_pictures(
    sources: Sequence[str], progress: Progress = quiet
) -> dict[str, list[UInt8[np.ndarray, "_ _ 4"]]]:
    """Load cut-out images by kind; equal sources give equal images in equal order.

    Raises:
        UsageError: If a source is unknown.
    """
    readers = {"emoji": _emoji, "stamps": _stamps, "digits": _digits}
    unknown = [name for name in sources if name not in readers]
    if unknown or not sources:
        raise UsageError(f"no images from '{', '.join(unknown)}'; known: {', '.join(readers)}")
    found: dict[str, list[UInt8[np.ndarray, "_ _ 4"]]] = {}
    for name in sources:
        for kind, picture in readers[name](progress):
            found.setdefault(kind, []).append(picture)
    return found


def _emoji(progress: Progress) -> Iterator[tuple[str, np.ndarray]]:
    table = packages.get("emoji", progress=progress)
    wanted = {*KINDS, *HELD_OUT_KINDS}
    rows = [
        place
        for place, (texts, source) in enumerate(
            zip(table.column("texts"), table.column("source"), strict=True)
        )
        if source in VENDORS and texts and texts[0].text in wanted
    ]
    for sample in table.rows(rows, columns=["texts", "image"]):
        yield sample.texts[0].text, _opened(sample)


def _stamps(progress: Progress) -> Iterator[tuple[str, np.ndarray]]:
    """Stamps whose caption is a kind only: "A frog."."""
    table = packages.get("stamps", progress=progress)
    wanted = {*KINDS, *HELD_OUT_KINDS}
    named = [re.fullmatch(r"an? (\w+)", normalise(texts[0].text)) for texts in table.column("texts")]
    rows = [place for place, found in enumerate(named) if found and found[1] in wanted]
    for place, sample in zip(rows, table.rows(rows, columns=["image"]), strict=True):
        found = named[place]
        assert found is not None
        yield found[1], _opened(sample)


def _digits(progress: Progress) -> Iterator[tuple[str, np.ndarray]]:
    """Handwritten digits, eight of each, black on white."""
    datasets = require("sklearn.datasets", "digits")
    digits = datasets.load_digits()
    for value, name in enumerate(DIGITS):
        for image in digits.images[digits.target == value][:8]:
            grey = Image.fromarray((255 - image / 16 * 255).astype(np.uint8))
            pixels = np.asarray(grey.resize((48, 48), Image.Resampling.BICUBIC).convert("RGB"))
            yield name, cut_out(pixels)


def _opened(sample: Sample) -> np.ndarray:
    assert sample.image is not None
    opened = media.open(sample.image)
    assert isinstance(opened, media.Image)
    picture = Image.fromarray(opened.pixels)
    picture.thumbnail((96, 96), Image.Resampling.LANCZOS)
    return cut_out(np.asarray(picture))


def _sample(
    scene: Scene,
    composer: Composer,
    part: Part,
    number: int,
    asked: Sequence[asking.Question],
    captions: Sequence[str],
) -> Sample:
    rng = np.random.default_rng([composer.seed, 11, PARTS.index(part), number])
    regions: list[tuple[Region, str]] = []
    for expression in _chosen(scene, composer, part, rng):
        regions += _expression_regions(scene, expression)
    if part == "train":
        coloured = _with_one_missing(inventory(scene.things), scene, composer, rng)
        regions += [*_caption_regions(coloured, scene), *_caption_regions(inventory(scene.things, []), scene)]
    else:
        regions = [(region, type) for region, type in regions if type != "part"]
    size_px = float(composer.layout.size_px)
    return Sample(
        uri=f"scenes:{composer.seed}/{part}/{number}",
        image=_png(scene.pixels),
        texts=[Caption("en", describe(scene.things, saying, size_px)) for saying in captions],
        regions=[region for region, _ in regions],
        group=f"{part}-{number}",
        source=SOURCE_OF[part],
        licence=LICENCE,
        meta={
            "types": " ".join(type for _, type in regions),
            "things": json.dumps([asdict(thing) for thing in scene.things]),
            questions.KEY: questions.to_meta(
                questions.Question(one.text, one.answer, one.type) for one in asked
            ),
        },
        width_px=scene.pixels.shape[1],
        height_px=scene.pixels.shape[0],
    )


def _caption_regions(listed: Listed, scene: Scene) -> list[tuple[Region, str]]:
    text, spans = caption(listed)
    return [(Region(text, start, end, _boxes(scene, places)), "caption") for start, end, places in spans]


def _with_one_missing(listed: Listed, scene: Scene, composer: Composer, rng: np.random.Generator) -> Listed:
    """Sometimes add a missing thing to a list, so that a caption alone proves nothing.

    Only with a wrong colour: with missing kinds too, a grounder learns kinds much later.
    """
    missing = [one for one in near_misses(scene.things, list(composer.palette)) if _is_known(one, composer)]
    place, which = int(rng.integers(len(listed) + 1)), int(rng.integers(max(1, len(missing))))
    if not missing or rng.random() >= _MISSING:
        return listed
    return [*listed[:place], (missing[which].description, ()), *listed[place:]]


def _is_known(expression: Expression, composer: Composer) -> bool:
    return (expression.description.kind, expression.description.colour) not in composer.held_out_pairs


def _chosen(scene: Scene, composer: Composer, part: Part, rng: np.random.Generator) -> list[Expression]:
    """A few expressions of each type; in held-out parts those about what is held out."""
    found = list(expressions(scene.things, _CLEAR * composer.layout.size_px))
    absent = list(near_misses(scene.things, list(composer.palette)))
    if part == "combinations":
        found = [one for one in found if _pair(one) in composer.held_out_pairs]
    elif part == "objects":
        found = [one for one in found if one.description.kind in composer.held_out_kinds]
    else:
        absent = [one for one in absent if _is_known(one, composer)]
    by_place = [one for one in found if one.type == "relation"]
    chosen = choose([one for one in found if one.type != "relation"], rng)
    chosen += choose(by_place, rng, _RELATIONS_TO_TRAIN_ON if part == "train" else 1)
    return chosen + choose(absent, rng)


def _pair(expression: Expression) -> tuple[str, str]:
    return expression.description.kind, expression.description.colour


def _expression_regions(scene: Scene, expression: Expression) -> list[tuple[Region, str]]:
    """Regions of the whole expression and, for a relation, of its two noun phrases."""
    said, boxes = expression.description, _boxes(scene, expression.places)
    whole = (Region(said.text, 0, len(said.text), boxes), expression.type)
    if said.anchor is None:
        return [whole]
    anchor = _boxes(scene, said.anchor.denotes(scene.things) or ())
    start = len(said.text) - len(said.anchor.text)
    head = Region(said.text, 0, len(said.head()), boxes)
    return [whole, (head, "part"), (Region(said.text, start, len(said.text), anchor), "part")]


def _boxes(scene: Scene, places: Sequence[int]) -> list[tuple[float, float, float, float]]:
    return [scene.things[place].box for place in places]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
