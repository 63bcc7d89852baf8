"""Measures of phrase grounding by published definitions, and the boxes that need no model.

In: for each phrase the boxes proposed, best first, how sure one is that it is there at all, and the true
boxes, (x0, y0, x1, y1) in pixels; none = the phrase names nothing in the image. Out: recalls, pointing game,
RefCOCO accuracy, and how well absent phrases are told apart. Every phrase counts by itself: the same words
said twice of an image are two phrases. Knows no model and no file.

Measures: recall at k (Plummer et al., Flickr30k Entities, arXiv 1505.04870) by the any-box and the merged-box
rule (told apart by Kamath et al., MDETR, arXiv 2104.12763); accuracy at IoU > .5 (Yu et al., RefCOCO, arXiv
1608.00272); pointing game (Zhang et al., arXiv 1608.00507, without its tolerance of 15 px).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from sensorium.core.errors import UsageError
from sensorium.nn.boxes import iou

KS = (1, 5, 10)


@dataclass(frozen=True)
class Grounded:
    """What was proposed for a phrase, and what is true.

    Attributes:
        boxes: Proposed, best first.
        score: How sure that the phrase names something in the image; any scale.
        truth: True boxes; none = it names nothing.
        width_px: Of the image.
        height_px: Of the image.
        point: Where the heat map peaks, (x, y); None: the middle of the first box.
    """

    boxes: Float[np.ndarray, "n 4"]
    score: float
    truth: Float[np.ndarray, "m 4"]
    width_px: int
    height_px: int
    point: tuple[float, float] | None = None


def grounding_metrics(phrases: Sequence[Grounded], *, min_iou: float = 0.5) -> Mapping[str, float | int]:
    """Measure phrases.

    Args:
        phrases: Each by itself.
        min_iou: Overlap from which a box counts as found.

    Returns:
        `accuracy` (first box, any-box rule; over phrases that are there), `R@k` (any of the first k boxes
        with any true box), `merged R@k` (with the box around all true ones), `pointing`, `RefCOCO` (IoU above
        `min_iou`, phrases of one box), `absent AUROC` (present against absent phrases by `score`), and the
        counts `phrases` and `absent`. What cannot be measured is left out.

    Raises:
        UsageError: If there is no phrase, or a box is not finite.
    """
    if not phrases:
        raise UsageError("no phrase to measure; give at least one")
    if not all(np.isfinite(one.boxes).all() and np.isfinite(one.truth).all() for one in phrases):
        raise UsageError("a box is not finite; check what the model proposes")
    present = [one for one in phrases if len(one.truth)]
    absent = [one for one in phrases if not len(one.truth)]
    found: dict[str, float | int] = {}
    if present:
        hits = {k: [_hit(one.boxes[:k], one.truth, min_iou) for one in present] for k in KS}
        around = [_around(one.truth) for one in present]
        found["accuracy"] = float(np.mean(hits[1]))
        found |= {f"R@{k}": float(np.mean(hits[k])) for k in KS}
        for k in KS:
            merged = [_hit(one.boxes[:k], box, min_iou) for one, box in zip(present, around, strict=True)]
            found[f"merged R@{k}"] = float(np.mean(merged))
        found["pointing"] = float(np.mean([_points_at(one) for one in present]))
        single = [one for one in present if len(one.truth) == 1]
        if single:
            best = [overlaps(one.boxes[:1], one.truth).max(initial=0) for one in single]
            found["RefCOCO"] = float(np.mean(np.array(best) > min_iou))
    if present and absent:
        found["absent AUROC"] = auroc([one.score for one in present], [one.score for one in absent])
    return found | {"phrases": len(present), "absent": len(absent)}


def overlaps(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of each pair of boxes.

    Example:
        >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
        [[0.333, 0.0]]
    """
    found: Float[np.ndarray, "n m"] = iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return found


def auroc(above: Sequence[float], below: Sequence[float]) -> float:
    """Chance that one of `above` scores higher than one of `below`; ties count half.

    Example:
        >>> auroc([0.9, 0.6], [0.6, 0.1])
        0.875
    """
    scores = np.concatenate([above, below])
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank = (last - (count - 1) / 2)[place]
    num_above, num_below = len(above), len(below)
    return float((rank[:num_above].sum() - num_above * (num_above + 1) / 2) / (num_above * num_below))


def baselines(
    phrases: Sequence[Grounded], *, seed: int = 0, num_boxes: int = 10
) -> dict[str, list[Grounded]]:
    """What boxes score that look at neither image nor phrase.

    Returns:
        `random`: corners drawn evenly; `centre`: half the picture's sides, in its middle; `whole image`. Of
        all three the score is the same for every phrase.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[Grounded]] = {"random": [], "centre": [], "whole image": []}
    for one in phrases:
        size = np.array([one.width_px, one.height_px] * 2)
        corners = rng.random((num_boxes, 2, 2)) * size[:2]
        drawn = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        whole = np.array([[0.0, 0.0, 1.0, 1.0]]) * size
        middle = np.array([[0.25, 0.25, 0.75, 0.75]]) * size
        for name, boxes in (("random", drawn), ("centre", middle), ("whole image", whole)):
            found[name].append(Grounded(boxes, 0.0, one.truth, one.width_px, one.height_px))
    return found


def _hit(boxes: Float[np.ndarray, "n 4"], truth: Float[np.ndarray, "m 4"], min_iou: float) -> bool:
    # Of a box drawn to be half of another, float32 makes .49999997: it is a hit.
    return bool((overlaps(boxes, truth) >= min_iou - 1e-6).any())


def _around(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "1 4"]:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]


def _points_at(one: Grounded) -> bool:
    if one.point is None and not len(one.boxes):
        return False
    x, y = one.point if one.point is not None else (one.boxes[0, :2] + one.boxes[0, 2:]) / 2
    inside: Bool[np.ndarray, " m"] = (
        (one.truth[:, 0] <= x) & (x <= one.truth[:, 2]) & (one.truth[:, 1] <= y) & (y <= one.truth[:, 3])
    )
    return bool(inside.any())
