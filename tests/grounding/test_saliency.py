"""Things that stand out: ways to the edge by Dijkstra, regions by spreading, thresholds by trying all."""

import heapq
import itertools

import numpy as np
import pytest
import torch

from sensorium.grounding.saliency import (
    boxes_of,
    connected_components,
    geodesic_saliency,
    otsu,
    salient_regions,
)

SHAPES = ((slice(2, 9), slice(3, 12)), (slice(5, 17), slice(17, 23)), (slice(13, 19), slice(0, 7)))


def picture(*, grain: float = 0.02, light: float = 0.3) -> torch.Tensor:
    """Things of two colours each on a background with grain and soft light; the third is cut by the edge."""
    chance = torch.Generator().manual_seed(3)
    pixels = grain * torch.rand(3, 23, 29, generator=chance) + light * torch.linspace(0, 1, 29)
    for number, (rows, columns) in enumerate(SHAPES):
        pixels[number, rows, columns] += 0.7
        pixels[1, rows, columns.start : columns.start + 2] += 0.4
    return pixels


def test_each_thing_is_a_region_with_its_box() -> None:
    numbers = salient_regions(picture())
    expected = torch.zeros(23, 29, dtype=torch.int64)
    for number, at in enumerate(SHAPES, 1):
        expected[at] = number
    assert torch.equal(numbers, expected)
    assert boxes_of(numbers).tolist() == [[3, 2, 12, 9], [17, 5, 23, 17], [0, 13, 7, 19]]


@pytest.mark.parametrize("changed", [lambda x: 5 * x - 2, lambda x: x.flip(0), lambda x: x + 0.2])
def test_contrast_and_brightness_change_nothing(changed) -> None:
    assert torch.equal(salient_regions(changed(picture())), salient_regions(picture()))


def test_a_mirrored_or_turned_picture_has_mirrored_or_turned_depths() -> None:
    pixels, depth = picture(), geodesic_saliency(picture())
    for turn in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2)):
        torch.testing.assert_close(geodesic_saliency(turn(pixels)), turn(depth))


def test_depth_is_the_cheapest_way_from_the_edge() -> None:
    pixels = torch.rand(3, 7, 11, generator=torch.Generator().manual_seed(5)).double()
    values = pixels.permute(1, 2, 0).numpy()
    steps = [np.linalg.norm(np.diff(values, axis=axis), axis=-1).ravel() for axis in (0, 1)]
    usual = np.sort(np.concatenate(steps))[(sum(map(len, steps)) - 1) // 2]
    edge = [(y, x) for y, x in np.ndindex(7, 11) if y in (0, 6) or x in (0, 10)]
    middle = np.sort([values[at] for at in edge], axis=0)[(len(edge) - 1) // 2]
    depth: dict[tuple[int, int], float] = {}
    ways = [(float(np.linalg.norm(values[at] - middle)), at) for at in edge]
    heapq.heapify(ways)
    while ways:
        cost, (y, x) = heapq.heappop(ways)
        if (y, x) in depth:
            continue
        depth[y, x] = cost
        for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= other[0] < 7 and 0 <= other[1] < 11:
                step = float(np.linalg.norm(values[other] - values[y, x]))
                heapq.heappush(ways, (cost + max(0.0, step - usual), other))
    expected = torch.tensor([[depth[y, x] for x in range(11)] for y in range(7)])
    torch.testing.assert_close(geodesic_saliency(pixels), expected.double())


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 13), (1, 5, 7), (3, 2, 2)])
def test_a_flat_picture_has_no_thing(shape: tuple[int, ...]) -> None:
    assert not salient_regions(torch.full(shape, 0.4)).any()
    assert boxes_of(salient_regions(torch.full(shape, 0.4))).shape == (0, 4)


def test_specks_are_no_things() -> None:
    pixels = picture()
    pixels[:, 11, 13] += 1
    assert torch.equal(salient_regions(pixels), salient_regions(picture()))


def test_regions_join_side_by_side_and_not_by_corners() -> None:
    mask = torch.rand(13, 17, generator=torch.Generator().manual_seed(2)) < 0.6
    spread = torch.where(mask, torch.arange(1, 13 * 17 + 1).reshape(13, 17), 0)
    for _ in range(13 * 17):
        for axis, step in itertools.product((0, 1), (1, -1)):
            moved = spread.roll(step, dims=axis)
            moved.select(axis, 0 if step == 1 else -1).zero_()
            spread = torch.where(mask & (moved > 0), torch.minimum(spread, moved), spread)
    kinds = spread.unique()
    assert torch.equal(connected_components(mask), torch.searchsorted(kinds, spread))
    assert len(kinds) > 5


def test_the_threshold_is_the_best_of_all() -> None:
    values = torch.randn(31, generator=torch.Generator().manual_seed(1)).double()
    values[19:] += 4

    def apart(threshold: float) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)

    best = max(apart(float(value)) for value in values.sort().values[:-1])
    assert apart(float(otsu(values))) == pytest.approx(best)
    assert otsu(torch.tensor([[3.0]])) == 3.0
