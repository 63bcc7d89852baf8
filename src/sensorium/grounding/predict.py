"""Detects phrases in an image with a trained grounder: boxes and scores.

Input: a grounder, images, and phrases of texts. Output: for each phrase its boxes, best first, in pixels of
the image, and a score that it is in the image. Where boxes come from depends on the training:

    with boxes      the grounder predicts them; non-maximum suppression keeps the best
    on words        salient regions (`grounding.saliency`), ranked by the log-probability of the phrase
    on captions     rectangles of the heat map with the greatest sum / area^power

With `one_to_one`, the phrases of a text are assigned to different boxes (Sinkhorn). Phrases are given, or the
text is split into simple noun phrases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from sensorium import media
from sensorium.core.errors import UsageError
from sensorium.data.table.sample import Region
from sensorium.grounding.batches import PreparedImage, collate, prepare_image
from sensorium.grounding.saliency import boxes_of, salient_regions
from sensorium.models.grounder import Grounder, GrounderOutput, PhraseBatch
from sensorium.nn.boxes import iou, nms
from sensorium.nn.matching import best_window, region_log_probs, sinkhorn

NUM_BOXES = 10
MIN_SCORE = 0.5
"""A phrase with a lower score is not in the image (only for grounders trained with boxes)."""
_NAMED_SHARE = 0.6
"""Boxes with at least this share of the best score count as named by the phrase, too."""
_POWER, _FLOOR = 0.8, 0.5
"""For `best_window`: heat maps are scaled to 0 at the median and 1 at the peak, and the floor is subtracted.
Both were tuned on thirty training scenes."""
_EDGES = frozenset(
    "above and at away below behind beside between by down from in inside into left near next of off on onto "
    "or over right to towards under up upon with without is are was were has have holding eating sitting "
    "standing lying running wearing riding looking there".split()
)
_NOT_NOUNS = frozenset("a an the this that these those it its his her their some no".split())


@dataclass(frozen=True)
class Detection:
    """A phrase with its boxes.

    Attributes:
        region: The phrase; its `boxes` are the ground truth, if given.
        boxes: Detected boxes, best first, (x0, y0, x1, y1) in pixels of the image.
        scores: Score of each box; higher is better.
        score: Score that the phrase is in the image: a probability if trained with boxes; otherwise
            comparable only within one model: 0 to 1 if trained on words, a cosine if trained on captions.
        is_there: Whether the score reaches the threshold.
        point: Peak of the heat map (x, y); within the best region if trained on words.
        heat: Heat map over the model's square input.
    """

    region: Region
    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    score: float
    is_there: bool
    point: tuple[float, float]
    heat: Float32[np.ndarray, "G G"]

    @property
    def named(self) -> Float32[np.ndarray, "k 4"]:
        """Boxes with a score near the best; empty if the phrase is not in the image."""
        if not self.is_there or not len(self.boxes):
            return self.boxes[:0]
        named: Float32[np.ndarray, "k 4"] = self.boxes[self.scores >= _NAMED_SHARE * self.scores[0]]
        return named

    def as_dict(self) -> dict[str, object]:
        """Phrase, span, best box (None if not in the image), all boxes and score, as plain values."""
        boxes = [[round(float(value), 2) for value in box] for box in self.named]
        found = {"phrase": self.region.phrase, "span": [self.region.start, self.region.end]}
        return found | {"box": boxes[0] if boxes else None, "boxes": boxes, "score": round(self.score, 4)}


def find_phrases(
    model: Grounder, image: media.Image, text: str, phrases: Sequence[str] = (), *, one_to_one: bool = False
) -> list[Detection]:
    """Detect the phrases of a text in an image.

    Args:
        model: Trained grounder.
        image: Opened image.
        text: Text about the image; the context of a phrase disambiguates it.
        phrases: Parts of `text`, in its order; empty: simple noun phrases.
        one_to_one: Whether to assign phrases to different boxes.

    Raises:
        UsageError: If the text is empty or a phrase does not occur in it.
    """
    spans = noun_phrases(text) if not phrases else given_phrases(text, phrases)
    regions = [Region(text, start, end) for start, end in spans]
    prepared = prepare_image(image, 0, regions, model)
    found = locate(model, [prepared], [regions])[0]
    is_one_to_one = one_to_one and len(found) > 1
    return _assign_boxes(found, has_absence=model.meeting is not None) if is_one_to_one else found


@torch.no_grad()
def locate(
    model: Grounder, images: Sequence[PreparedImage], originals: Sequence[Sequence[Region]]
) -> list[list[Detection]]:
    """Detect the phrases of each image; `originals` are its regions with boxes in its own pixels."""
    was_training = model.training
    model.eval()
    batch = collate(images if model.meeting else [_first_noun_phrases(one) for one in images], model)
    batch = batch.to(model.device)
    found = model(batch)
    model.train(was_training)
    results: list[list[Detection]] = []
    number = 0
    for place, (image, regions) in enumerate(zip(images, originals, strict=True)):
        read = _reader(model, found, batch, image, place)
        results.append([_detection(model, read(number + n), image, one) for n, one in enumerate(regions)])
        number += len(regions)
    return results


def noun_phrases(text: str) -> list[tuple[int, int]]:
    """Split an English text into simple noun phrases; returns their spans.

    It splits at punctuation and at a fixed list of prepositions and verbs, and keeps parts with at least one
    word that is not an article. There is no parser; phrases can be given instead.

    Raises:
        UsageError: If there is no phrase.

    Example:
        >>> text = "the red frog left of a blue key, and two stars"
        >>> [text[start:end] for start, end in noun_phrases(text)]
        ['the red frog', 'a blue key', 'two stars']
    """
    spans = list(_stretches(text))
    if not spans:
        raise UsageError(f"no phrase in '{text}'; name what to look for, as in 'a red frog'")
    return spans


def given_phrases(text: str, phrases: Sequence[str]) -> list[tuple[int, int]]:
    """Spans of phrases, repeated ones at their next occurrence; raises `UsageError` if one is missing."""
    spans: list[tuple[int, int]] = []
    ends: dict[str, int] = {}
    for phrase in phrases:
        wanted = phrase.strip().lower()
        start = text.lower().find(wanted, ends.get(wanted, 0)) if wanted else -1
        if start < 0:
            raise UsageError(f"phrase '{phrase}' does not occur in '{text}'; give parts of the text")
        ends[wanted] = start + len(wanted)
        spans.append((start, start + len(wanted)))
    return spans


def _stretches(text: str) -> Iterator[tuple[int, int]]:
    words = [(found.start(), found.end()) for found in re.finditer(r"[^\W_]+(?:['’-][^\W_]+)*", text)]
    stretch: list[tuple[int, int]] = []
    for place, (start, end) in enumerate(words):
        gap = text[words[place - 1][1] : start] if place else ""
        is_edge = text[start:end].lower() in _EDGES
        if stretch and (is_edge or gap.strip()):
            yield from _kept(text, stretch)
            stretch = []
        if not is_edge:
            stretch.append((start, end))
    yield from _kept(text, stretch)


def _kept(text: str, stretch: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    if any(text[start:end].lower() not in _NOT_NOUNS for start, end in stretch):
        yield stretch[0][0], stretch[-1][1]


@dataclass(frozen=True)
class _InputDetection:
    """A detection in coordinates of the input, see `Detection`; `core` masks the patches for its point."""

    boxes: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    score: float
    is_there: bool
    heat: Float[Tensor, " M"]
    core: Bool[Tensor, " M"] | None = None


def _reader(
    model: Grounder, found: GrounderOutput, batch: PhraseBatch, image: PreparedImage, place: int
) -> Callable[[int], _InputDetection]:
    """Return a function from phrase number to detection, for the image at index `place` of the batch."""
    if found.boxes is not None:
        return lambda number: _predicted_boxes(found, number)
    if model.offset is None:
        return lambda number: _heat_map_boxes(model, found, number)
    numbers = _input_regions(image)
    boxes, parts = boxes_of(numbers), _region_weights(model, numbers)
    patches = found.patches.values[place].cpu()

    def read(number: int) -> _InputDetection:
        words = found.words.values[batch.text_of_phrase[number]][batch.spans[number]].cpu()
        fits = region_log_probs(patches, words, parts)
        order = fits.argsort(descending=True, stable=True)[:NUM_BOXES]
        scores, heat, best = fits[order].exp(), found.scores[number].exp().cpu(), parts[order[0]]
        return _InputDetection(boxes[order], scores, float(scores[0]), True, heat, best > best.max() / 2)

    return read


def _predicted_boxes(found: GrounderOutput, number: int) -> _InputDetection:
    """Detection by a model trained with boxes."""
    assert found.boxes is not None
    assert found.absent is not None
    shares = torch.cat([found.scores[number], found.absent[number, None]]).softmax(dim=0).cpu()
    heat, score = shares[:-1], float(1 - shares[-1])
    keep = nms(found.boxes[number].cpu(), heat, keep=NUM_BOXES)
    boxes = found.boxes[number].cpu()[keep]
    return _InputDetection(boxes, heat[keep], score, score >= MIN_SCORE, heat)


def _heat_map_boxes(model: Grounder, found: GrounderOutput, number: int) -> _InputDetection:
    """Detection by a model trained on captions: the best window, then the best outside of it, and so on."""
    heat = found.scores[number].cpu()
    low, high = heat.median(), heat.max()
    rest = ((heat - low) / (high - low).clamp(min=1e-6) - _FLOOR).reshape(model.grid, model.grid)
    boxes, scores = [], []
    for _ in range(NUM_BOXES):
        window = best_window(rest, power=_POWER)
        boxes.append([window.left, window.top, window.right, window.bottom])
        scores.append(window.score)
        rest[window.top : window.bottom, window.left : window.right] = -1.0
    in_px = torch.tensor(boxes, dtype=torch.float32) * (model.size_px / model.grid) + model.shift_px
    return _InputDetection(in_px, torch.tensor(scores, dtype=torch.float32), float(high), True, heat)


def _detection(model: Grounder, found: _InputDetection, image: PreparedImage, region: Region) -> Detection:
    grid = model.grid
    heat = found.heat if found.core is None else found.heat.masked_fill(~found.core, -torch.inf)
    row, column = divmod(int(heat.argmax()), grid)
    shift_px = 0.0 if model.meeting else model.shift_px
    middle = np.array([[column + 0.5, row + 0.5] * 2], np.float32) * (model.size_px / grid) + shift_px
    x, y = image.fit.to_image(middle)[0, :2].tolist()
    corner = np.array([image.width_px, image.height_px] * 2, np.float32)
    boxes = np.clip(image.fit.to_image(found.boxes.numpy()), 0, corner).astype(np.float32)
    whole = found.heat.reshape(grid, grid).numpy()
    return Detection(region, boxes, found.scores.numpy(), found.score, found.is_there, (x, y), whole)


def _input_regions(image: PreparedImage) -> Int64[Tensor, "S S"]:
    """Number the salient regions of the image within the input; without any, the whole image is one."""
    corners = np.array([[0, 0, image.width_px, image.height_px]], np.float32)
    left, top, right, bottom = image.fit.to_input(corners)[0].round().astype(int).tolist()
    pixels = torch.from_numpy(image.pixels)
    numbers = torch.zeros(pixels.shape[1:], dtype=torch.int64)
    found = salient_regions(pixels[:, top:bottom, left:right])
    numbers[top:bottom, left:right] = found if found.any() else 1
    return numbers


def _region_weights(model: Grounder, numbers: Int64[Tensor, "S S"]) -> Float[Tensor, "K M"]:
    """Number of pixels of each region that are nearest to each patch."""
    cell_px = model.size_px / model.grid
    middles = torch.arange(model.size_px) + 0.5 - model.shift_px
    nearest = middles.div(cell_px).long().clamp(0, model.grid - 1)
    place = nearest[:, None] * model.grid + nearest
    parts = torch.zeros(int(numbers.max()) + 1, model.grid**2)
    return parts.index_put_((numbers, place), torch.ones(()), accumulate=True)[1:]


def _first_noun_phrases(image: PreparedImage) -> PreparedImage:
    """Shorten phrases to their first noun phrase, for models without relations.

    "the frog left of the key" becomes "the frog", so that the key does not influence its score.
    """
    cut = []
    for region in image.regions:
        start, end = next(_stretches(region.phrase), (0, len(region.phrase)))
        cut.append(replace(region, start=region.start + start, end=region.start + end))
    return replace(image, regions=cut)


def _assign_boxes(found: Sequence[Detection], *, has_absence: bool) -> list[Detection]:
    """Assign the boxes of an image to its phrases (Sinkhorn); each phrase gets its most probable box."""
    boxes = torch.from_numpy(np.concatenate([one.boxes for one in found]))
    scores = torch.from_numpy(np.concatenate([one.scores for one in found]))
    pool = boxes[nms(boxes, scores, max_iou=0.7)]
    fits = torch.stack([_fit(one, pool) for one in found])
    absent = torch.tensor([1 - one.score if has_absence else 0.0 for one in found])
    chosen = sinkhorn(fits, absent).argmax(dim=1).tolist()
    return [_with_first(one, pool, int(choice)) for one, choice in zip(found, chosen, strict=True)]


def _fit(one: Detection, pool: Float[Tensor, "K 4"]) -> Float[Tensor, " K"]:
    """Score of each box of the pool for a phrase: the score of its own box with the greatest IoU."""
    overlap, own = iou(pool, torch.from_numpy(one.boxes)).max(dim=1)
    return torch.where(overlap > 0.7, torch.from_numpy(one.scores)[own], 0.0)


def _with_first(one: Detection, pool: Float[Tensor, "K 4"], choice: int) -> Detection:
    if choice == len(pool):
        return replace(one, is_there=False)
    boxes = np.concatenate([pool[choice : choice + 1].numpy(), one.boxes])
    return replace(one, boxes=boxes, scores=np.concatenate([one.scores[:1], one.scores]))
