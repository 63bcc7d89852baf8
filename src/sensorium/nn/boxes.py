"""Boxes in an image: overlap, suppression of repeats, and the conventions in which files state them.

A box is (x0, y0, x1, y1): x to the right, y down, corners at pixel edges, so that its area is
(x1 - x0)(y1 - y0) and a picture of W x H pixels is the box (0, 0, W, H). Files state others; `from_xywh` and
`from_normalised` turn them into this one. Nothing here knows what lies in a box.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def from_xywh(boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Boxes from corner and size, as COCO and RefCOCO state them.

    Example:
        >>> from_xywh(torch.tensor([[10.0, 20.0, 5.0, 7.0]])).tolist()
        [[10.0, 20.0, 15.0, 27.0]]
    """
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def from_normalised(boxes: Float[Tensor, "n 4"], width: float, height: float) -> Float[Tensor, "n 4"]:
    """Boxes from centre and size as shares of the picture, as DETR and YOLO state them.

    Example:
        >>> from_normalised(torch.tensor([[0.5, 0.5, 0.2, 1.0]]), width=100.0, height=50.0).tolist()
        [[40.0, 0.0, 60.0, 50.0]]
    """
    size = boxes.new_tensor([width, height])
    centre, half = boxes[:, :2] * size, boxes[:, 2:] * size / 2
    return torch.cat([centre - half, centre + half], dim=1)


def area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Area of each box; 0 where a corner lies before the other."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of each pair; two empty boxes have none.

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
    """IoU less the share of the enclosing box that neither fills, box i with box i; in (-1, 1].

    Unlike IoU it still says which way to move where two boxes do not touch.

    Reference:
        Rezatofighi et al., arXiv 1902.09630, algorithm 1.
    """
    least = torch.finfo(a.dtype).eps
    shared = area(torch.cat([torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])], dim=1))
    union = area(a) + area(b) - shared
    around = area(torch.cat([torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])], dim=1))
    return shared / union.clamp(min=least) - (around - union) / around.clamp(min=least)


def merged(boxes: Float[Tensor, "n 4"]) -> Float[Tensor, " 4"]:
    """The smallest box around all: what Flickr30k's merged-box measure compares with.

    Example:
        >>> merged(torch.tensor([[0.0, 1.0, 2.0, 3.0], [5.0, 0.0, 6.0, 2.0]])).tolist()
        [0.0, 0.0, 6.0, 3.0]
    """
    return torch.cat([boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)])


def nms(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], *, max_iou: float = 0.5, keep: int | None = None
) -> Int64[Tensor, " k"]:
    """Choose boxes best first, each leaving out those that overlap it by more than `max_iou`.

    Args:
        boxes: Candidates.
        scores: Higher is better; of equal ones the first wins.
        max_iou: Overlap above which the lesser box is taken to be a repeat.
        keep: Most boxes chosen; None: all.

    Returns:
        Positions of the chosen boxes, best first.
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
