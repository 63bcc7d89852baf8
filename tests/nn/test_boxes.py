"""Boxes: closed forms, laws of overlap, conventions."""

import pytest
import torch

from sensorium.nn.boxes import area, generalised_iou, iou, nms


def boxes(num: int, seed: int) -> torch.Tensor:
    drawn = torch.rand(num, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 97
    return torch.cat([drawn.amin(dim=1), drawn.amax(dim=1)], dim=1)


def pixels(box: torch.Tensor) -> torch.Tensor:
    """The plain definition: which of 100 x 100 pixels a box of whole numbers covers."""
    at = torch.arange(100)
    inside = [(at >= box[axis]) & (at < box[axis + 2]) for axis in (0, 1)]
    return inside[1][:, None] & inside[0][None]


def test_overlap_is_that_of_counted_pixels() -> None:
    a, b = boxes(7, 1).round(), boxes(11, 2).round()
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            shared = (pixels(one) & pixels(other)).sum()
            union = (pixels(one) | pixels(other)).sum()
            assert iou(a, b)[i, j].item() == pytest.approx((shared / union.clamp(min=1)).item())
    assert torch.equal(area(a), torch.stack([pixels(one).sum() for one in a]).double())


def test_overlap_is_symmetric_and_blind_to_shift_and_scale() -> None:
    a, b = boxes(13, 3), boxes(13, 4)
    assert torch.allclose(iou(a, b), iou(b, a).T)
    assert torch.allclose(iou(a, b), iou(3 * a + 5, 3 * b + 5))
    assert torch.allclose(iou(a, a).diagonal(), torch.ones(13, dtype=torch.float64))


def test_generalised_overlap_bounds_overlap_from_below_and_grows_as_boxes_near() -> None:
    a, b = boxes(17, 5), boxes(17, 6)
    assert (generalised_iou(a, b) <= iou(a, b).diagonal() + 1e-12).all()
    assert (generalised_iou(a, b) > -1).all()
    assert torch.allclose(generalised_iou(a, a), torch.ones(17, dtype=torch.float64))
    still = torch.tensor([[0.0, 0, 10, 10]])
    apart = [generalised_iou(still, still + step).item() for step in (40.0, 30.0, 20.0, 5.0)]
    assert apart == sorted(apart)


def test_suppression_keeps_the_best_of_each_pile() -> None:
    piles = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [50.0, 50, 60, 60], [50.0, 51, 60, 61]])
    assert nms(piles, torch.tensor([0.3, 0.9, 0.5, 0.4])).tolist() == [1, 2]
    assert nms(piles, torch.tensor([0.3, 0.9, 0.5, 0.4]), max_iou=1.0).tolist() == [1, 2, 3, 0]
    assert nms(piles, torch.tensor([0.3, 0.9, 0.5, 0.4]), max_iou=1.0, keep=3).tolist() == [1, 2, 3]
    assert nms(piles[:0], torch.zeros(0)).tolist() == []


def test_what_suppression_keeps_does_not_overlap_and_what_it_drops_does() -> None:
    found = boxes(31, 8)
    scores = torch.rand(31, generator=torch.Generator().manual_seed(9))
    kept = nms(found, scores, max_iou=0.2)
    overlap = iou(found[kept], found[kept]) - torch.eye(len(kept))
    assert overlap.max() <= 0.2
    dropped = [place for place in range(31) if place not in kept.tolist()]
    better = scores[kept][None] >= scores[dropped][:, None]
    assert ((iou(found[dropped], found[kept]) > 0.2) & better).any(dim=1).all()
