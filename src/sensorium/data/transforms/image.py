"""Image to normalised pixels, bit-identical to torchvision on PIL images (Pillow's bicubic resize).

Input: an `Image` (uint8, H x W x 3), or a `Video`, of which the middle frame is used. Output: float32
(3, size, size). Modes: `crop` resizes the short side (the other by `int()` truncation) and crops the centre
(offset by `round()`); `squash` resizes both sides; `pad` fits the long side and centres it on white.
Augmentation: random resized crop, flip, rotation, colour jitter, erasing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32
from PIL import Image as pillow

from sensorium.core.errors import UsageError
from sensorium.media.types import Image, Media, Video

WHITE = (255, 255, 255)
_MAX_ASPECT = 16  # beyond it, resize-then-crop would make a huge intermediate image
_VIEW_GAP = 2.0
"""Pillow's `reducing_gap` of random views: a much larger image is first reduced by a whole factor."""


@dataclass(frozen=True)
class ImageInput:
    """Resizes, augments and normalises an image.

    Attributes:
        size_px: Side of the square result.
        mean: Mean of each channel, in 0..1.
        std: Standard deviation of each channel, in 0..1.
        mode: How an image that is not square is fitted: `crop`, `squash` or `pad`.
        crop_scale: In training, range of the crop's area as a share of the image.
        crop_ratio: In training, the crop's aspect relative to the image is in [1/ratio, ratio].
        flip: In training, probability of a horizontal flip; 0 if text or direction matters.
        colour: In training, range of the change of contrast to white and of saturation; white stays white.
        tint: In training, range of the change of each channel's distance to white.
        erase: In training, largest side of a random white square, as a share of the image's side.
        rotation_deg: In training, largest rotation; corners are filled white.
    """

    size_px: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    mode: Literal["crop", "squash", "pad"] = "crop"
    crop_scale: tuple[float, float] = (0.6, 1.0)
    crop_ratio: float = 1.15
    flip: float = 0.0
    colour: float = 0.2
    tint: float = 0.0
    erase: float = 0.0
    rotation_deg: float = 0.0

    def __call__(
        self, media: Media | str, rng: np.random.Generator | None = None
    ) -> Float32[np.ndarray, "3 H W"]:
        """Return the normalised pixels, augmented if `rng` is given.

        Raises:
            UsageError: If `media` has no image.
        """
        picture = pillow.fromarray(_pixels_of(media))
        square = self._fit(picture) if rng is None else self._random_view(picture, rng)
        pixels = np.asarray(square, dtype=np.float32)
        if rng is not None:
            pixels = _erase(_recolour(pixels, self.colour, self.tint, rng), self.erase, rng)
        scale = np.float32(1 / 255) / np.asarray(self.std, dtype=np.float32)
        shift = np.asarray(self.mean, dtype=np.float32) / np.asarray(self.std, dtype=np.float32)
        return np.ascontiguousarray((pixels * scale - shift).transpose(2, 0, 1))

    def _fit(self, picture: pillow.Image) -> pillow.Image:
        if self.mode == "crop":
            return _crop(picture, self.size_px)
        if self.mode == "squash":
            return picture.resize((self.size_px, self.size_px), pillow.Resampling.BICUBIC)
        return _canvas(picture, self.size_px, 1.0, 1.0, np.array([0.5, 0.5]), gap=None)

    def _random_view(self, picture: pillow.Image, rng: np.random.Generator) -> pillow.Image:
        area = rng.uniform(*self.crop_scale)
        stretch = math.exp(rng.uniform(-1, 1) * math.log(self.crop_ratio))
        position = rng.random(2)
        view = _window if self.mode != "pad" else _canvas
        square = view(picture, self.size_px, math.sqrt(area), math.sqrt(stretch), position)
        if rng.random() < self.flip:
            square = square.transpose(pillow.Transpose.FLIP_LEFT_RIGHT)
        angle = rng.uniform(-1, 1) * self.rotation_deg
        if angle != 0:
            square = square.rotate(angle, pillow.Resampling.BILINEAR, fillcolor=WHITE)
        return square


def _pixels_of(media: Media | str) -> np.ndarray:
    if isinstance(media, Image):
        return media.pixels
    if isinstance(media, Video):
        return np.asarray(media.frames[len(media.frames) // 2])
    raise UsageError(f"an image encoder got {type(media).__name__}; give an Image or a Video")


def _crop(picture: pillow.Image, size: int) -> pillow.Image:
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    resized_long = int(size * long / short)
    offset = round((resized_long - size) / 2)
    if long > _MAX_ASPECT * short:
        middle = (offset * long / resized_long, (offset + size) * long / resized_long)
        box = (middle[0], 0, middle[1], height) if width > height else (0, middle[0], width, middle[1])
        return picture.resize((size, size), pillow.Resampling.BICUBIC, box=box)
    wide = (resized_long, size) if width > height else (size, resized_long)
    left, top = (offset, 0) if width > height else (0, offset)
    return picture.resize(wide, pillow.Resampling.BICUBIC).crop((left, top, left + size, top + size))


def _window(
    picture: pillow.Image, size: int, scale: float, stretch: float, position: np.ndarray
) -> pillow.Image:
    """Resize a crop of `scale` of the sides and `stretch` times wider, at the relative `position`."""
    width = picture.width * min(1.0, scale * stretch)
    height = picture.height * min(1.0, scale / stretch)
    left, top = position[0] * (picture.width - width), position[1] * (picture.height - height)
    box = (left, top, min(left + width, picture.width), min(top + height, picture.height))
    return picture.resize((size, size), pillow.Resampling.BICUBIC, box=box, reducing_gap=_VIEW_GAP)


def _canvas(
    picture: pillow.Image,
    size: int,
    scale: float,
    stretch: float,
    position: np.ndarray,
    gap: float | None = _VIEW_GAP,
) -> pillow.Image:
    """Pad to a white square, enlarge it by 1/`scale` and crop it at the relative `position`."""
    zoom = size / max(picture.size) / scale
    width = max(1, round(picture.width * zoom / stretch))
    height = max(1, round(picture.height * zoom * stretch))
    square = pillow.new("RGB", (size, size), WHITE)
    resized = picture.resize((width, height), pillow.Resampling.BICUBIC, reducing_gap=gap)
    square.paste(resized, (round(position[0] * (size - width)), round(position[1] * (size - height))))
    return square


def _recolour(pixels: np.ndarray, colour: float, tint: float, rng: np.random.Generator) -> np.ndarray:
    """Colour jitter that keeps white: ink' = gains (grey + saturation (ink - grey)), ink = 255 - pixels."""
    strength, saturation = 1 + colour * rng.uniform(-1, 1, 2)
    gains = strength * (1 + tint * rng.uniform(-1, 1, 3))
    mixing = gains[:, None] * (saturation * np.eye(3) + (1 - saturation) / 3)
    changed = pixels @ mixing.T.astype(np.float32)
    changed += (255 - 255 * mixing.sum(axis=1)).astype(np.float32)
    return np.asarray(np.clip(changed, 0, 255, out=changed))


def _erase(pixels: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Fill a random square with white."""
    share, *position = rng.random(3)
    side = int(share * most * len(pixels))
    if side > 0:
        top, left = (int(part * (len(pixels) - side + 1)) for part in position)
        pixels[top : top + side, left : left + side] = 255
    return pixels
