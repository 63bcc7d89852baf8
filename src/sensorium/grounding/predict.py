"""Find phrases in an image: boxes and scores from a trained grounder.

In: a grounder, images and phrases of texts. Out: for each phrase its boxes, best first, in pixels of the
image, and how sure the model is that it is there. A grounder trained with boxes tells them; one that learned
single words from captions says which of the things that stand out is named, and one that compared captions
has its heat map only. With `one_to_one`, phrases of one text share the boxes out
among themselves so that no two get the same (Sinkhorn). Phrases may be given; else a text is cut into simple
noun phrases.
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
"""Below it, a phrase is taken not to be there (grounders trained with boxes alone can tell)."""
_NEARLY = 0.6
"""Share of the best box's score from which another counts as named, too."""
_POWER, _FLOOR = 0.8, 0.5
"""Of the best window: a heat map runs from 0 at its median to 1 at its peak; below the floor is better left
out. Both were chosen on thirty training scenes, and nothing else of them was."""
_EDGES = frozenset(
    "above and at away below behind beside between by down from in inside into left near next of off on onto "
    "or over right to towards under up upon with without is are was were has have holding eating sitting "
    "standing lying running wearing riding looking there".split()
)
_NOT_NOUNS = frozenset("a an the this that these those it its his her their some no".split())


@dataclass(frozen=True)
class Detection:
    """Where a phrase is.

    Attributes:
        region: The phrase; its `boxes` are what was given with it, if anything.
        boxes: GrounderOutput, best first, (x0, y0, x1, y1) in pixels of the image.
        scores: Of these boxes; higher is better.
        score: How sure that what it names is there: a probability where the grounder was trained with boxes;
            else to be compared within a run alone, between 0 and 1, or a cosine where captions were compared.
        is_there: Whether that is enough.
        point: Where its heat map peaks; of things that stand out, on the best of them.
        heat: The map, (grid, grid), over the model's square input.
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
        """Boxes of all that the phrase seems to name: those nearly as good as the best; none if not there."""
        if not self.is_there or not len(self.boxes):
            return self.boxes[:0]
        named: Float32[np.ndarray, "k 4"] = self.boxes[self.scores >= _NEARLY * self.scores[0]]
        return named

    def as_dict(self) -> dict[str, object]:
        """Phrase, span, best box (None where it is not there), all boxes and score, as plain values."""
        boxes = [[round(float(value), 2) for value in box] for box in self.named]
        found = {"phrase": self.region.phrase, "span": [self.region.start, self.region.end]}
        return found | {"box": boxes[0] if boxes else None, "boxes": boxes, "score": round(self.score, 4)}


def find_phrases(
    model: Grounder, image: media.Image, text: str, phrases: Sequence[str] = (), *, one_to_one: bool = False
) -> list[Detection]:
    """Find phrases of a text in an image.

    Args:
        model: A trained grounder.
        image: Opened.
        text: What is said of it; its context helps to tell which thing is meant.
        phrases: Parts of `text`, in its order; () cuts it into simple noun phrases.
        one_to_one: Let no two phrases have the same box.

    Raises:
        UsageError: If the text is empty or a phrase does not occur in it.
    """
    spans = noun_phrases(text) if not phrases else given_phrases(text, phrases)
    regions = [Region(text, start, end) for start, end in spans]
    prepared = prepare_image(image, 0, regions, model)
    found = locate(model, [prepared], [regions])[0]
    tells_absence = model.meeting is not None
    return _shared_out(found, tells_absence) if one_to_one and len(found) > 1 else found


@torch.no_grad()
def locate(
    model: Grounder, images: Sequence[PreparedImage], originals: Sequence[Sequence[Region]]
) -> list[list[Detection]]:
    """Find the regions' phrases in each image.

    Args:
        model: A trained grounder.
        images: PreparedImage.
        originals: Regions of each image, with boxes in its own pixels; they are passed on.
    """
    was_training = model.training
    model.eval()
    batch = collate([image if model.meeting else _heads(image) for image in images], model).to(model.device)
    found = model(batch)
    model.train(was_training)
    results: list[list[Detection]] = []
    number = 0
    for place, (image, regions) in enumerate(zip(images, originals, strict=True)):
        read = _reader(model, found, batch, image, place)
        results.append([_located(model, read(number + n), image, region) for n, region in enumerate(regions)])
        number += len(regions)
    return results


def noun_phrases(text: str) -> list[tuple[int, int]]:
    """Cut a text into simple noun phrases: stretches of words between prepositions, verbs and commas.

    Knows no grammar: it cuts at a fixed list of English words and at punctuation, and keeps stretches with
    a word that is no article. Where that is not enough, phrases can be given.

    Raises:
        UsageError: If nothing is left.

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
    """Where phrases stand in a text; the same words given twice are looked for further on.

    Raises:
        UsageError: If one does not occur.
    """
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
class _Reading:
    """What was found of a phrase, in the model's input: see `Detection`; `core` is where it may point."""

    boxes: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    score: float
    is_there: bool
    heat: Float[Tensor, " M"]
    core: Bool[Tensor, " M"]


def _reader(
    model: Grounder, found: GrounderOutput, batch: PhraseBatch, image: PreparedImage, place: int
) -> Callable[[int], _Reading]:
    """How to read a phrase, by its number in the batch, from what the model found in the image at `place`."""
    if found.boxes is not None:
        return lambda number: _told(found, number)
    if model.offset is None:
        return lambda number: _cut_out(model, found, number)
    numbers = _things(image)
    boxes, parts, places = boxes_of(numbers), _parts(model, numbers), found.places.values[place].cpu()

    def read(number: int) -> _Reading:
        words = found.words.values[batch.text_of_phrase[number]][batch.spans[number]].cpu()
        fits = region_log_probs(places, words, parts)
        order = fits.argsort(descending=True, stable=True)[:NUM_BOXES]
        scores, heat, best = fits[order].exp(), found.scores[number].exp().cpu(), parts[order[0]]
        return _Reading(boxes[order], scores, float(scores[0]), True, heat, best > best.max() / 2)

    return read


def _told(found: GrounderOutput, number: int) -> _Reading:
    """Boxes that the model tells itself."""
    assert found.boxes is not None
    assert found.absent is not None
    shares = torch.cat([found.scores[number], found.absent[number, None]]).softmax(dim=0).cpu()
    heat, score = shares[:-1], float(1 - shares[-1])
    keep = nms(found.boxes[number].cpu(), heat, keep=NUM_BOXES)
    boxes = found.boxes[number].cpu()[keep]
    return _Reading(
        boxes, heat[keep], score, score >= MIN_SCORE, heat, torch.ones_like(heat, dtype=torch.bool)
    )


def _cut_out(model: Grounder, found: GrounderOutput, number: int) -> _Reading:
    """Boxes by the heat map alone."""
    heat = found.scores[number].cpu()
    boxes, scores = _windows(heat.reshape(model.grid, model.grid), model.size_px / model.grid)
    boxes = boxes + model.shift_px
    return _Reading(boxes, scores, float(heat.max()), True, heat, torch.ones_like(heat, dtype=torch.bool))


def _located(model: Grounder, found: _Reading, image: PreparedImage, region: Region) -> Detection:
    grid = model.grid
    row, column = divmod(int(found.heat.masked_fill(~found.core, -torch.inf).argmax()), grid)
    shift_px = 0.0 if model.meeting else model.shift_px
    middle = np.array([[column + 0.5, row + 0.5] * 2], np.float32) * (model.size_px / grid) + shift_px
    x, y = image.fit.to_image(middle)[0, :2].tolist()
    boxes = _inside(image.fit.to_image(found.boxes.numpy()), image)
    heat = found.heat.reshape(grid, grid).numpy()
    return Detection(region, boxes, found.scores.numpy(), found.score, found.is_there, (x, y), heat)


def _things(image: PreparedImage) -> Int64[Tensor, "S S"]:
    """Number what stands out of the picture within the input; where nothing does, all of the picture."""
    corners = np.array([[0, 0, image.width_px, image.height_px]], np.float32)
    left, top, right, bottom = image.fit.to_input(corners)[0].round().astype(int).tolist()
    pixels = torch.from_numpy(image.pixels)
    numbers = torch.zeros(pixels.shape[1:], dtype=torch.int64)
    found = salient_regions(pixels[:, top:bottom, left:right])
    numbers[top:bottom, left:right] = found if found.any() else 1
    return numbers


def _parts(model: Grounder, numbers: Int64[Tensor, "S S"]) -> Float[Tensor, "K M"]:
    """How many pixels of each thing are nearest to each place."""
    cell_px = model.size_px / model.grid
    middles = torch.arange(model.size_px) + 0.5 - model.shift_px
    nearest = middles.div(cell_px).long().clamp(0, model.grid - 1)
    place = nearest[:, None] * model.grid + nearest
    parts = torch.zeros(int(numbers.max()) + 1, model.grid**2)
    return parts.index_put_((numbers, place), torch.ones(()), accumulate=True)[1:]


def _heads(image: PreparedImage) -> PreparedImage:
    """Cut phrases to their first noun phrase: words that mean themselves alone resolve no relation.

    Of "the frog left of the key" a frog is looked for, and not something between frog and key.
    """
    cut = []
    for region in image.regions:
        start, end = next(_stretches(region.phrase), (0, len(region.phrase)))
        cut.append(replace(region, start=region.start + start, end=region.start + end))
    return replace(image, regions=cut)


def _windows(heat: Float[Tensor, "G G"], cell_px: float) -> tuple[Float[Tensor, "n 4"], Float[Tensor, " n"]]:
    """Boxes from a heat map alone: its best window, then the best of what lies outside it, and so on."""
    low, high = heat.median(), heat.max()
    rest = (heat - low) / (high - low).clamp(min=1e-6) - _FLOOR
    boxes, scores = [], []
    for _ in range(NUM_BOXES):
        window = best_window(rest, power=_POWER)
        boxes.append([window.left, window.top, window.right, window.bottom])
        scores.append(window.score)
        rest[window.top : window.bottom, window.left : window.right] = -1.0
    return torch.tensor(boxes, dtype=torch.float32) * cell_px, torch.tensor(scores, dtype=torch.float32)


def _inside(boxes: Float32[np.ndarray, "n 4"], image: PreparedImage) -> Float32[np.ndarray, "n 4"]:
    """Cut off what leaves the image."""
    far = np.array([image.width_px, image.height_px] * 2, np.float32)
    cut: Float32[np.ndarray, "n 4"] = np.clip(boxes, 0, far).astype(np.float32)
    return cut


def _shared_out(found: Sequence[Detection], tells_absence: bool) -> list[Detection]:
    """Share all boxes of an image out among its phrases; each gets the one that it has most of."""
    boxes = torch.from_numpy(np.concatenate([one.boxes for one in found]))
    scores = torch.from_numpy(np.concatenate([one.scores for one in found]))
    pool = boxes[nms(boxes, scores, max_iou=0.7)]
    fits = torch.stack([_fit(one, pool) for one in found])
    absent = torch.tensor([1 - one.score if tells_absence else 0.0 for one in found])
    chosen = sinkhorn(fits, absent).argmax(dim=1).tolist()
    return [_with_first(one, pool, int(choice)) for one, choice in zip(found, chosen, strict=True)]


def _fit(one: Detection, pool: Float[Tensor, "K 4"]) -> Float[Tensor, " K"]:
    """How well each box of the pool fits a phrase: the score of its own box that overlaps it most."""
    overlap, own = iou(pool, torch.from_numpy(one.boxes)).max(dim=1)
    return torch.where(overlap > 0.7, torch.from_numpy(one.scores)[own], 0.0)


def _with_first(one: Detection, pool: Float[Tensor, "K 4"], choice: int) -> Detection:
    if choice == len(pool):
        return replace(one, is_there=False)
    boxes = np.concatenate([pool[choice : choice + 1].numpy(), one.boxes])
    return replace(one, boxes=boxes, scores=np.concatenate([one.scores[:1], one.scores]))
