"""Prepares images, texts and phrases as inputs of a grounder, and collates them.

Input: rows with regions, or with captions for training without boxes. Output: a `PhraseBatch`. Images are
fitted into the model's square input, and boxes are transformed with them (`Fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32

from sensorium import media
from sensorium.core.errors import MediaError, UsageError
from sensorium.core.types import pad
from sensorium.data.table.sample import Region, Sample
from sensorium.data.transforms import ImageInput, TextInput
from sensorium.models.grounder import Grounder, PhraseBatch


@dataclass(frozen=True)
class Fit:
    """Map from image to input coordinates: `x_input = x * zoom[0] + offset[0]`, and the same for y."""

    zoom: tuple[float, float]
    offset: tuple[float, float]

    def to_input(self, boxes: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
        """Map boxes from image to input coordinates."""
        moved = boxes * np.array(self.zoom * 2) + np.array(self.offset * 2)
        return np.asarray(moved, dtype=np.float32)

    def to_image(self, boxes: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
        """Map boxes from input to image coordinates."""
        moved = (boxes - np.array(self.offset * 2)) / np.array(self.zoom * 2)
        return np.asarray(moved, dtype=np.float32)


def fit_of(width_px: int, height_px: int, image_input: ImageInput) -> Fit:
    """Map of an image of this size into the input; raises `UsageError` if the input crops images."""
    size = image_input.size_px
    if image_input.mode == "squash":
        return Fit((size / width_px, size / height_px), (0.0, 0.0))
    if image_input.mode != "pad":
        raise UsageError(f"input mode '{image_input.mode}' crops images; use pad or squash")
    zoom = size / max(width_px, height_px)
    width, height = max(1, round(width_px * zoom)), max(1, round(height_px * zoom))
    offset = (round(0.5 * (size - width)), round(0.5 * (size - height)))
    return Fit((width / width_px, height / height_px), (float(offset[0]), float(offset[1])))


@dataclass(frozen=True)
class PreparedImage:
    """One image with its phrases.

    Attributes:
        row: Row number.
        pixels: Input of the model.
        regions: Phrases, with boxes in pixels of the input.
        fit: Map from image to input.
        width_px: Width of the image.
        height_px: Height of the image.
    """

    row: int
    pixels: Float32[np.ndarray, "3 H W"]
    regions: Sequence[Region]
    fit: Fit
    width_px: int
    height_px: int


def prepare_image(
    opened: media.Image, row: int, regions: Sequence[Region], grounder: Grounder
) -> PreparedImage:
    """Fit an opened image and its regions into the grounder's input."""
    image_input = grounder.image.input
    assert isinstance(image_input, ImageInput)
    height, width = opened.pixels.shape[:2]
    fit = fit_of(width, height, image_input)
    moved = [
        Region(r.text, r.start, r.end, fit.to_input(np.array(r.boxes, np.float32).reshape(-1, 4)).tolist())
        for r in regions
    ]
    return PreparedImage(row, image_input(opened), moved, fit, width, height)


def collate(images: Sequence[PreparedImage], grounder: Grounder) -> PhraseBatch:
    """Collate images; phrases of one text share it; raises `UsageError` without phrases or their tokens."""
    text_input = grounder.text.input
    assert isinstance(text_input, TextInput)
    texts: list[tuple[int, str]] = []
    phrases: list[tuple[int, Region]] = []
    for place, image in enumerate(images):
        numbers: dict[str, int] = {}
        for region in image.regions:
            if region.text not in numbers:
                numbers[region.text] = len(texts)
                texts.append((place, region.text))
            phrases.append((numbers[region.text], region))
    if not phrases:
        raise UsageError("no phrase in any image; give at least one")
    padded = pad([text_input(text) for _, text in texts])
    spans = [token_span(text_input, region, padded.mask.shape[1]) for _, region in phrases]
    most = max(1, *(len(region.boxes) for _, region in phrases))
    boxes = torch.zeros(len(phrases), most, 4)
    for number, (_, region) in enumerate(phrases):
        if region.boxes:
            boxes[number, : len(region.boxes)] = torch.tensor(region.boxes)
    return PhraseBatch(
        rows=torch.tensor([image.row for image in images]),
        images=pad([image.pixels for image in images]),
        texts=padded,
        image_of_text=torch.tensor([place for place, _ in texts]),
        text_of_phrase=torch.tensor([number for number, _ in phrases]),
        spans=torch.from_numpy(np.stack(spans)),
        boxes=boxes,
        num_boxes=torch.tensor([len(region.boxes) for _, region in phrases]),
    )


def token_span(text_input: TextInput, region: Region, num_tokens: int) -> Bool[np.ndarray, " N"]:
    """Mask of the tokens that a phrase covers, at least in part; raises `UsageError` if there are none."""
    span = np.zeros(num_tokens, dtype=bool)
    for place, (start, end) in enumerate(text_input.offsets(region.text)):
        span[place] = max(start, region.start) < min(end, region.end)
    if not span.any():
        raise UsageError(
            f"phrase '{region.phrase}' at {region.start}:{region.end} covers no token of '{region.text}'; "
            "its span is empty, or the text is longer than the model reads"
        )
    return span


def prepare_row(
    sample: Sample, row: int, grounder: Grounder, *, captions_only: bool = False
) -> PreparedImage:
    """Open a row's image and fit its regions, or its captions; raises `MediaError` if it has neither."""
    if not sample.image:
        raise MediaError("the row has no image")
    opened = media.open(sample.image)  # in full: boxes are in its pixels
    if not isinstance(opened, media.Image):
        raise MediaError(f"the image column holds {type(opened).__name__.lower()}")
    regions = sample.regions
    if captions_only:
        regions = [Region(caption.text, 0, len(caption.text)) for caption in sample.texts]
    if not regions:
        raise MediaError("the row has no caption" if captions_only else "the row has no regions")
    return prepare_image(opened, row, regions, grounder)
