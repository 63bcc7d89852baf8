"""Bounding boxes in an image: area, IoU and non-maximum suppression.

A box is (x0, y0, x1, y1) in pixels: x to the right, y down, corners at pixel edges. Its area is
(x1 - x0)(y1 - y0), and an image of W x H pixels is the box (0, 0, W, H).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Area of each box; 0 if x1 < x0 or y1 < y0."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of each pair; 0 if both boxes are empty.

    Example:
        >>> iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])).item()
        0.3333333432674408
    """
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = area(torch.cat([low, high], dim=-1))
    union = area(a)[:, None] + area(b)[None] - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def generalised_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Generalised IoU of box i of `a` with box i of `b`, in (-1, 1]; has a gradient without overlap, too.

    It is IoU - (area of the enclosing box - union) / area of the enclosing box.

    Reference:
        Rezatofighi et al., arXiv 1902.09630, algorithm 1.
    """
    least = torch.finfo(a.dtype).eps
    shared = area(torch.cat([torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])], dim=1))
    union = area(a) + area(b) - shared
    around = area(torch.cat([torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])], dim=1))
    return shared / union.clamp(min=least) - (around - union) / around.clamp(min=least)


def nms(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], *, max_iou: float = 0.5, keep: int | None = None
) -> Int64[Tensor, " k"]:
    """Non-maximum suppression: drop boxes that overlap a better one by more than `max_iou`.

    Args:
        boxes: Candidates (n, 4).
        scores: Higher is better; of equal scores the first box wins.
        max_iou: IoU above which the lower-scored box is dropped.
        keep: Maximum number of boxes to keep; None: all.

    Returns:
        Indices of the kept boxes, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    overlap = iou(boxes, boxes)
    chosen: list[int] = []
    for place in order.tolist():
        if keep is not None and len(chosen) >= keep:
            break
        if not chosen or bool((overlap[place, chosen] <= max_iou).all()):
            chosen.append(place)
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device)
