"""Composes scenes from cut-out images: several things with known boxes, colours, sizes and places.

Input: cut-out images by kind (`cut_out` makes them from images on white), and a seed. Output: scenes, each
an image with its things. Tinting changes the hue of an image and keeps its lightness. Some kinds, and some
colours of each other kind, are held out of training scenes, to measure generalisation to new kinds and to
new combinations. Scene i of a part depends on seed, part and i only. Phrases for scenes: `referring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from composed_world.referring import Box, Thing
from sensorium.core.errors import UsageError

_T = TypeVar("_T")
Part = Literal["train", "seen", "combinations", "objects"]
PARTS: tuple[Part, ...] = ("train", "seen", "combinations", "objects")
PALETTE: Mapping[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (236, 208, 20),
    "green": (50, 160, 60),
    "blue": (40, 95, 215),
    "purple": (140, 60, 180),
    "grey": (110, 112, 118),
}
_WHITE_FROM = 238
_TRIES = 60
_MIDDLE = 0.55
"""Lightness at which a tinted pixel has the pure colour."""
_FLAT = 24.0
"""An image with a smaller range of lightness counts as one tone."""


@dataclass(frozen=True)
class Layout:
    """Layout of scenes.

    Attributes:
        size_px: Side of the square image.
        num_things: Minimum and maximum number of things.
        num_to_train_on: The same for training scenes; None: `num_things`.
        small: Range of the longer side of a small thing, as a share of the image.
        large: The same for a large thing.
        turn_deg: Maximum rotation of things.
    """

    size_px: int = 96
    num_things: tuple[int, int] = (3, 6)
    num_to_train_on: tuple[int, int] | None = None
    small: tuple[float, float] = (0.17, 0.22)
    large: tuple[float, float] = (0.31, 0.38)
    turn_deg: float = 8.0


@dataclass(frozen=True)
class Scene:
    """An image and its things.

    Attributes:
        pixels: (H, W, 3).
        things: With their boxes in pixels.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    things: tuple[Thing, ...]


@dataclass
class Composer:
    """Composes scenes.

    Attributes:
        pictures: Cut-out RGBA images by kind.
        held_out_kinds: Kinds of the part `objects` only.
        held_out_share: Share of the colours of each other kind that only `combinations` and `objects` have.
        palette: Colours by name.
        layout: Layout of scenes.
        seed: Of all random choices.

    Raises:
        UsageError: If fewer than two kinds are left for training, or a kind has no image.
    """

    pictures: Mapping[str, Sequence[UInt8[np.ndarray, "_ _ 4"]]]
    held_out_kinds: Sequence[str] = ()
    held_out_share: float = 0.15
    palette: Mapping[str, tuple[int, int, int]] = field(default_factory=lambda: dict(PALETTE))
    layout: Layout = field(default_factory=Layout)
    seed: int = 0

    def __post_init__(self) -> None:
        missing = [kind for kind in self.held_out_kinds if kind not in self.pictures]
        empty = [kind for kind, pictures in self.pictures.items() if not pictures]
        if missing or empty:
            raise UsageError(f"no image of {', '.join([*missing, *empty])}; give one, or leave the kind out")
        if len(self.known_kinds) < 2:
            raise UsageError(f"{len(self.known_kinds)} kinds to train on; give images of at least two")
        self._tinted: dict[tuple[str, int, str], Image.Image] = {}

    @cached_property
    def known_kinds(self) -> list[str]:
        """Kinds of training scenes."""
        return [kind for kind in self.pictures if kind not in self.held_out_kinds]

    @cached_property
    def held_out_pairs(self) -> frozenset[tuple[str, str]]:
        """(kind, colour) pairs that no training scene has; most kinds keep each colour."""
        rng = np.random.default_rng([self.seed, 77])
        colours, num = list(self.palette), round(self.held_out_share * len(self.palette))
        pairs: set[tuple[str, str]] = set()
        for place, kind in enumerate(self.known_kinds):
            start = place + int(rng.integers(len(colours)))
            pairs |= {(kind, colours[(start + step) % len(colours)]) for step in range(num)}
        return frozenset(pairs)

    def scene(self, part: Part, number: int) -> Scene:
        """Compose scene `number` of a part: equal numbers of one part and seed give equal scenes.

        Args:
            part: `train`; `seen`: new scenes of training kinds and colours; `combinations`: with a held-out
                colour of a training kind; `objects`: with a held-out kind.
            number: From 0.

        Raises:
            UsageError: If nothing was held out for the part.
        """
        rng = np.random.default_rng([self.seed, PARTS.index(part), number])
        wanted = self._choose_things(part, rng)
        canvas = _background(self.layout.size_px, rng)
        things: list[Thing] = []
        for kind, colour, size in wanted:
            picture = self._picture(kind, colour, size, rng)
            corner = self._free_place(picture.size, [thing.box for thing in things], rng)
            if corner is not None:
                canvas.paste(picture, corner, picture)
                things.append(Thing(kind, colour, size, _box_of(picture, corner)))
        return Scene(np.asarray(canvas), tuple(things))

    def _choose_things(self, part: Part, rng: np.random.Generator) -> list[tuple[str, str, str]]:
        """Kind, colour and size of each thing; some kinds are repeated, so that phrases need details."""
        asked = self.layout.num_to_train_on if part == "train" else None
        low, high = self.layout.num_things if asked is None else asked
        count = int(rng.integers(low, high + 1))
        first = self._first_pair(part, rng)
        pairs = [first]
        while len(pairs) < count:
            same = rng.random() < 0.5
            kind, colour = pairs[int(rng.integers(len(pairs)))] if same else self._any_pair(part, rng)
            if same and rng.random() < 0.6:  # equal kind, another colour; else both equal
                colour = self._colour_of(kind, part, rng)
            pairs.append((kind, colour))
        return [(kind, colour, str(rng.choice(["small", "large"]))) for kind, colour in pairs]

    def _first_pair(self, part: Part, rng: np.random.Generator) -> tuple[str, str]:
        """The (kind, colour) pair that defines the part."""
        if part == "combinations":
            return _pick(sorted(self.held_out_pairs), "held_out_share", rng)
        if part == "objects":
            kind = _pick(list(self.held_out_kinds), "held_out_kinds", rng)
            return kind, self._colour_of(kind, part, rng)
        return self._any_pair(part, rng)

    def _any_pair(self, part: Part, rng: np.random.Generator) -> tuple[str, str]:
        kind = str(rng.choice(self.known_kinds))
        return kind, self._colour_of(kind, part, rng)

    def _colour_of(self, kind: str, part: Part, rng: np.random.Generator) -> str:
        """A colour for a kind; only `combinations` may have held-out pairs."""
        allowed = [
            colour
            for colour in self.palette
            if part == "combinations" or (kind, colour) not in self.held_out_pairs
        ]
        return str(rng.choice(allowed))

    def _picture(self, kind: str, colour: str, size: str, rng: np.random.Generator) -> Image.Image:
        """A tinted image, mirrored or not, rotated a little and resized."""
        which = int(rng.integers(len(self.pictures[kind])))
        key = (kind, which, colour)
        if key not in self._tinted:
            tinted = tint(np.asarray(self.pictures[kind][which]), self.palette[colour])
            self._tinted[key] = Image.fromarray(tinted)
        picture = self._tinted[key]
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turn = rng.uniform(-1, 1) * self.layout.turn_deg
        picture = _cropped(picture.rotate(turn, Image.Resampling.BICUBIC, expand=True))
        low, high = self.layout.small if size == "small" else self.layout.large
        side = rng.uniform(low, high) * self.layout.size_px / max(picture.size)
        width, height = (max(4, round(length * side)) for length in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)

    def _free_place(
        self, size: tuple[int, int], taken: Sequence[Box], rng: np.random.Generator
    ) -> tuple[int, int] | None:
        """A corner without overlap, or None if none was found."""
        width, height = size
        for _ in range(_TRIES):
            x = int(rng.integers(1, max(2, self.layout.size_px - width)))
            y = int(rng.integers(1, max(2, self.layout.size_px - height)))
            apart = (
                x >= x1 + 1 or x + width <= x0 - 1 or y >= y1 + 1 or y + height <= y0 - 1
                for x0, y0, x1, y1 in taken
            )
            if all(apart):
                return x, y
        return None


def cut_out(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 4"]:
    """Remove the white background of a thing and crop to it.

    White inside the thing is kept: background is white that is connected to the edge.

    Args:
        pixels: A thing on white; `media.open` puts transparent images on white.

    Returns:
        RGBA; alpha is 0 outside the thing.

    Raises:
        UsageError: If the image is all white.
    """
    is_white = (pixels.min(axis=-1) >= _WHITE_FROM).astype(np.uint8) * 255
    framed = Image.fromarray(np.pad(is_white, 1, constant_values=255)).copy()  # fromarray returns a view
    ImageDraw.floodfill(framed, (0, 0), 128)
    alpha = np.where(np.asarray(framed)[1:-1, 1:-1] == 128, 0, 255).astype(np.uint8)
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if len(rows) == 0:
        raise UsageError("the image is all white; give one with a thing on it")
    inner = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return np.dstack([pixels[inner], alpha[inner]])


def tint(picture: UInt8[np.ndarray, "h w 4"], colour: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 4"]:
    """Tint an image: its darkest pixels become nearly black, its lightest nearly white.

    Lightness is stretched between its 2nd and 98th percentile, so that pale images take the colour too.
    """
    light = picture[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    inside = light[picture[..., 3] > 127]
    low, high = np.percentile(inside, [2, 98]) if len(inside) else (0.0, 255.0)
    span = float(high - low)
    level = (
        np.clip((light - low) / span, 0, 1)[..., None]
        if span >= _FLAT
        else np.full((*light.shape, 1), _MIDDLE)
    )
    ink = np.array(colour, np.float32)
    dark = ink * (0.30 + 0.70 * level / _MIDDLE)
    pale = ink + (255 - ink) * 0.62 * (level - _MIDDLE) / (1 - _MIDDLE)
    shaded = np.where(level < _MIDDLE, dark, pale)
    return np.dstack([np.clip(shaded, 0, 255).astype(np.uint8), picture[..., 3]])


def _background(size: int, rng: np.random.Generator) -> Image.Image:
    """A gradient between two near-white hues, with a little noise."""
    corners = rng.uniform(214, 250, (2, 2, 3)).astype(np.float32)
    corners = corners.mean(axis=-1, keepdims=True) * 0.75 + corners * 0.25
    small = Image.fromarray(corners.astype(np.uint8))
    smooth = np.asarray(small.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)
    grain = rng.normal(0, 1.5, (size, size, 1)).astype(np.float32)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def _cropped(picture: Image.Image) -> Image.Image:
    box = picture.getchannel("A").point(lambda level: 255 if level > 40 else 0).getbbox()
    return picture.crop(box) if box is not None else picture


def _box_of(picture: Image.Image, corner: tuple[int, int]) -> Box:
    return (
        float(corner[0]),
        float(corner[1]),
        float(corner[0] + picture.width),
        float(corner[1] + picture.height),
    )


def _pick(options: Sequence[_T], name: str, rng: np.random.Generator) -> _T:
    if not options:
        raise UsageError(f"nothing was held out for this part; set {name}")
    return options[int(rng.integers(len(options)))]
