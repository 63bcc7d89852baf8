"""Scenes: boxes hold the things, parts keep what they hold out, equal seeds give equal scenes."""

import numpy as np
import pytest

from composed_world.scenes import PALETTE, Composer, Layout, cut_out, tint
from sensorium.core.errors import UsageError
from sensorium.nn.boxes import iou


def disc(size: int, hole: bool = False) -> np.ndarray:
    """A dark disc on white, with a white middle if asked for."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.hypot(x, y)
    dark = (radius < size * 0.4) & ((radius > size * 0.2) if hole else True)
    return np.where(dark[..., None], [60, 90, 30], 255).astype(np.uint8).repeat(1, axis=-1)


def composer(seed: int = 5, **options: object) -> Composer:
    bar = np.full((29, 11, 3), 70, np.uint8)
    pictures = {"disc": [cut_out(disc(31))], "ring": [cut_out(disc(37, hole=True))], "bar": [cut_out(bar)]}
    pictures["wedge"] = [cut_out(np.tril(np.full((23, 23), 215, np.uint8))[..., None].repeat(3, -1) ^ 255)]
    given = {"pictures": pictures, "held_out_kinds": ["wedge"], "seed": seed, **options}
    return Composer(**given)  # type: ignore[arg-type]


def test_white_around_goes_and_white_within_stays() -> None:
    ring = cut_out(disc(37, hole=True))
    assert ring.shape[0] < 37
    assert ring[0, 0, 3] == 0
    middle = ring[ring.shape[0] // 2, ring.shape[1] // 2]
    assert middle.tolist() == [255, 255, 255, 255]
    with pytest.raises(UsageError, match="all white"):
        cut_out(np.full((5, 7, 3), 255, np.uint8))


def test_a_tint_sets_the_hue_and_keeps_light_and_dark() -> None:
    ramp = np.linspace(40, 220, 13).astype(np.uint8)[None, :, None].repeat(3, -1).repeat(3, 0)
    for colour in PALETTE.values():
        tinted = tint(np.dstack([ramp, np.full((3, 13), 255, np.uint8)]), colour).astype(int)
        brightness = tinted[0, :, :3].sum(axis=-1)
        assert (np.diff(brightness) >= 0).all()
        assert np.argmax(tinted[0, 5, :3]) == np.argmax(colour)
        assert (tinted[..., 3] == 255).all()


def test_equal_numbers_give_equal_scenes_and_others_do_not() -> None:
    one, again, other = (
        composer().scene("train", 3),
        composer().scene("train", 3),
        composer(6).scene("train", 3),
    )
    assert np.array_equal(one.pixels, again.pixels)
    assert one.things == again.things
    assert not np.array_equal(one.pixels, other.pixels)
    assert not np.array_equal(one.pixels, composer().scene("seen", 3).pixels)


def test_things_lie_in_their_boxes_and_apart() -> None:
    made = composer(layout=Layout(size_px=97))
    for number in range(11):
        scene = made.scene("train", number)
        assert scene.pixels.shape == (97, 97, 3)
        assert scene.things
        boxes = np.array([thing.box for thing in scene.things])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= 97).all()
        import torch

        overlap = iou(torch.from_numpy(boxes), torch.from_numpy(boxes))
        assert (overlap - torch.eye(len(boxes))).max() <= 0
        inside = np.zeros((97, 97), bool)
        for x0, y0, x1, y1 in boxes.astype(int):
            inside[y0:y1, x0:x1] = True
        saturation = scene.pixels.max(axis=-1).astype(int) - scene.pixels.min(axis=-1)
        assert saturation[~inside].max() < 30  # paper alone lies outside the boxes
        colourful = [thing for thing in scene.things if thing.colour not in ("grey",)]
        for thing in colourful:
            x0, y0, x1, y1 = (int(value) for value in thing.box)
            part = saturation[y0:y1, x0:x1] > 30
            assert part.any(axis=0).mean() > 0.8  # the thing fills its box from side to side
            assert part.any(axis=1).mean() > 0.8


def test_parts_hold_out_what_they_say() -> None:
    made = composer(held_out_share=0.3)
    pairs = made.held_out_pairs
    assert pairs
    assert {kind for kind, _ in pairs} <= set(made.known_kinds)
    for number in range(23):
        for part in ("train", "seen"):
            shown = {(thing.kind, thing.colour) for thing in made.scene(part, number).things}
            assert not shown & pairs
            assert "wedge" not in {kind for kind, _ in shown}
        assert {(t.kind, t.colour) for t in made.scene("combinations", number).things} & pairs
        assert "wedge" in {thing.kind for thing in made.scene("objects", number).things}


def test_colours_and_kinds_come_evenly() -> None:
    made = composer(held_out_kinds=[], held_out_share=0.0)
    things = [thing for number in range(300) for thing in made.scene("train", number).things]
    for values in ([thing.kind for thing in things], [thing.colour for thing in things]):
        _, counts = np.unique(values, return_counts=True)
        assert counts.max() / counts.min() < 1.5


def test_training_scenes_may_have_fewer_things() -> None:
    made = composer(layout=Layout(size_px=97, num_to_train_on=(1, 2)))
    assert all(len(made.scene("train", number).things) <= 2 for number in range(19))
    assert max(len(made.scene("seen", number).things) for number in range(19)) > 2


def test_what_cannot_be_composed_is_refused() -> None:
    with pytest.raises(UsageError, match="no image of unicorn"):
        composer(held_out_kinds=["unicorn"])
    with pytest.raises(UsageError, match="at least two"):
        composer(held_out_kinds=["disc", "ring", "bar"])
    with pytest.raises(UsageError, match="held_out_share"):
        composer(held_out_share=0.0).scene("combinations", 0)
