"""Phrase grounding metrics by published definitions, and baselines without a model.

Input: for each phrase the proposed boxes, best first, a score for its presence, and the true boxes, (x0, y0,
x1, y1) in pixels; no true box = the phrase names nothing in the image. Output: recall, pointing game, RefCOCO
accuracy, and AUROC of the presence score. Every phrase counts once, also if a text repeats its words.

Metrics: recall at k (Plummer et al., Flickr30k Entities, arXiv 1505.04870) by the any-box and the merged-box
rule (defined by Kamath et al., MDETR, arXiv 2104.12763); accuracy at IoU > .5 (Yu et al., RefCOCO, arXiv
1608.00272); pointing game (Zhang et al., arXiv 1608.00507, without its tolerance of 15 px).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from sensorium.core.errors import UsageError
from sensorium.evals.rank_correlation import ranks
from sensorium.nn.boxes import iou

KS = (1, 5, 10)


@dataclass(frozen=True)
class Grounded:
    """Prediction and truth of one phrase.

    Attributes:
        boxes: Proposed boxes, best first.
        score: Confidence that the phrase names something in the image, on any scale.
        truth: True boxes; none = it names nothing.
        width_px: Width of the image.
        height_px: Height of the image.
        point: Peak of the heat map, (x, y); None: the centre of the first box.
    """

    boxes: Float[np.ndarray, "n 4"]
    score: float
    truth: Float[np.ndarray, "m 4"]
    width_px: int
    height_px: int
    point: tuple[float, float] | None = None


def grounding_metrics(phrases: Sequence[Grounded], *, min_iou: float = 0.5) -> Mapping[str, float | int]:
    """Compute all metrics over phrases.

    Args:
        phrases: At least one.
        min_iou: Least IoU of a box that counts as found.

    Returns:
        `accuracy` (first box, any-box rule, over present phrases), `R@k` (any of the first k boxes with any
        true box), `merged R@k` (with the box around all true boxes), `pointing`, `RefCOCO` (IoU above
        `min_iou`, phrases with one true box), `absent AUROC` (present against absent phrases by `score`), and
        the counts `phrases` and `absent`. Metrics without data are left out.

    Raises:
        UsageError: If there is no phrase, or a box is not finite.
    """
    if not phrases:
        raise UsageError("no phrase to measure; give at least one")
    if not all(np.isfinite(one.boxes).all() and np.isfinite(one.truth).all() for one in phrases):
        raise UsageError("a box is not finite; check the boxes that the model proposes")
    present = [one for one in phrases if len(one.truth)]
    absent = [one for one in phrases if not len(one.truth)]
    found: dict[str, float | int] = {}
    if present:
        hits = {k: [_hit(one.boxes[:k], one.truth, min_iou) for one in present] for k in KS}
        around = [_bounding_box(one.truth) for one in present]
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
    """Intersection over union (IoU) of each pair of boxes.

    Example:
        >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
        [[0.333, 0.0]]
    """
    found: Float[np.ndarray, "n m"] = iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return found


def auroc(above: Sequence[float], below: Sequence[float]) -> float:
    """Area under the ROC curve: probability that one of `above` scores higher than one of `below`; ties 1/2.

    Example:
        >>> auroc([0.9, 0.6], [0.6, 0.1])
        0.875
    """
    rank = ranks(np.concatenate([above, below]))
    num_above, num_below = len(above), len(below)
    return float((rank[:num_above].sum() - num_above * (num_above + 1) / 2) / (num_above * num_below))


def baselines(
    phrases: Sequence[Grounded], *, seed: int = 0, num_boxes: int = 10
) -> dict[str, list[Grounded]]:
    """Predictions that depend on neither image nor phrase.

    Returns:
        `random`: uniformly drawn corners; `centre`: a centred box of half the sides; `whole image`. The
        presence score is the same for every phrase.
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
    # In float32, the IoU of a box with its half is .49999997, which counts as a hit.
    return bool((overlaps(boxes, truth) >= min_iou - 1e-6).any())


def _bounding_box(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "1 4"]:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]


def _points_at(one: Grounded) -> bool:
    if one.point is None and not len(one.boxes):
        return False
    x, y = one.point if one.point is not None else (one.boxes[0, :2] + one.boxes[0, 2:]) / 2
    inside: Bool[np.ndarray, " m"] = (
        (one.truth[:, 0] <= x) & (x <= one.truth[:, 2]) & (one.truth[:, 1] <= y) & (y <= one.truth[:, 3])
    )
    return bool(inside.any())
