"""An oracle of composed scenes: which things a picture shows, of what kind, colour and size, and where.

In: training scenes, whose things are known. Out: for any picture of the same side a list of things. A small
CNN says at each of 12 x 12 places whether a thing's middle is there, and which; places where it says so more
surely than at all around them are things. It serves to judge drawn pictures, so what it makes of real ones
that it never saw stands beside every figure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from composed_world.scenes import PALETTE
from composed_world.scenes_table import KINDS
from sensorium import media
from sensorium.core.types import Padded
from sensorium.data.table.table import Table
from sensorium.encoders.vision import ImageCNN

SIDE, GRID = 96, 12
COLOURS, SIZES = tuple(PALETTE), ("small", "large")
ATTRIBUTES = ("kind", "colour", "size", "place")
_HEADS = (1, len(KINDS), len(COLOURS), len(SIZES))
_SURE_FROM = -2.5
"""Logit of a place that counts: a middle between two places is half at each."""
_BATCH, _RATE = 48, 2e-3


@dataclass(frozen=True)
class Seen:
    """A thing; `place` is the third of the picture that its middle is in, each way."""

    kind: str
    colour: str
    size: str
    place: tuple[int, int]


class Oracle(nn.Module):
    """The CNN and its heads."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ImageCNN(width=24, depths=(1, 1, 1, 1), merged=2, size_px=SIDE)
        self.head = nn.Linear(self.body.dim, sum(_HEADS))

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Logits of each head, (B, places, n)."""
        found = self.body(Padded(pixels, torch.ones(len(pixels), 1, dtype=torch.bool))).values
        return list(self.head(found.float()).split(_HEADS, dim=-1))

    @torch.inference_mode()
    def things(self, pictures: UInt8[np.ndarray, "B H W 3"]) -> list[list[Seen]]:
        """What pictures show."""
        self.eval()
        is_there, kinds, colours, sizes = self(_normalised(torch.from_numpy(pictures)))
        surest = is_there[..., 0].unflatten(1, (GRID, GRID))
        highest = functional.max_pool2d(surest[:, None], 3, 1, 1)[:, 0]
        return [
            [
                Seen(
                    KINDS[int(kinds[row, at].argmax())],
                    COLOURS[int(colours[row, at].argmax())],
                    SIZES[int(sizes[row, at].argmax())],
                    (at % GRID * 3 // GRID, at // GRID * 3 // GRID),
                )
                for at in torch.nonzero(((surest == highest) & (surest > _SURE_FROM))[row].flatten())[
                    :, 0
                ].tolist()
            ]
            for row in range(len(pictures))
        ]


def asked_for(things: Sequence[dict[str, object]]) -> list[Seen]:
    """The things of a row of the table, as the oracle should see them."""
    return [
        Seen(
            str(one["kind"]), str(one["colour"]), str(one["size"]), tuple(at * 3 // GRID for at in _cell(one))
        )
        for one in things
    ]


def agreement(asked: Sequence[Seen], found: Sequence[Seen]) -> dict[str, list[bool]]:
    """For each thing that was asked for, which of its attributes the thing that answers to it has.

    Things are paired so that as many attributes as can be agree; what was not drawn has none.
    """
    same = np.array(
        [[[getattr(a, name) == getattr(f, name) for name in ATTRIBUTES] for f in found] for a in asked]
    ).reshape(len(asked), len(found), len(ATTRIBUTES))
    marks = np.zeros((len(asked), len(ATTRIBUTES)), bool)
    rows, columns = linear_sum_assignment(-same.sum(2))
    marks[rows] = same[rows, columns]
    return {name: marks[:, column].tolist() for column, name in enumerate(ATTRIBUTES)}


def train_oracle(table: Table, rows: Sequence[int], steps: int, seed: int = 0) -> Oracle:
    """Train one on some rows; pictures are blurred now and then, for drawn ones are."""
    torch.manual_seed(seed)
    oracle, rng = Oracle(), np.random.default_rng(seed)
    pictures, known = read_scenes(table, rows)
    targets = [_targets(things) for things in known]
    optimiser = torch.optim.AdamW(oracle.parameters(), lr=_RATE, weight_decay=0.05, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        chosen = rng.integers(len(pictures), size=_BATCH)
        pixels = _normalised(torch.from_numpy(pictures[chosen]))
        if rng.random() < 0.5:
            pixels = functional.interpolate(
                functional.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear", align_corners=False
            )
        with torch.autocast("cpu", torch.bfloat16):
            found = oracle(pixels)
        loss = _loss(found, [targets[one] for one in chosen])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(oracle.parameters(), 1)
        optimiser.step()
        if (step + 1) % 200 == 0:
            print(f"oracle: {step + 1}/{steps}, loss {float(loss.detach()):.3f}", flush=True)
    return oracle.eval()


def read_scenes(
    table: Table, rows: Sequence[int]
) -> tuple[UInt8[np.ndarray, "N H W 3"], list[list[dict[str, object]]]]:
    """Pictures and things of rows."""
    pictures, things = [], []
    for sample in table.rows(list(rows), columns=["image", "meta"]):
        assert sample.image is not None
        pictures.append(media.open(sample.image).pixels)  # type: ignore[union-attr]
        things.append(json.loads(sample.meta["things"]))
    return np.stack(pictures), things


def _loss(found: Sequence[Tensor], targets: Sequence[dict[int, tuple[int, int, int]]]) -> Tensor:
    is_there, *named = found
    wanted = torch.zeros(is_there.shape[:2])
    places = [(row, at) for row, target in enumerate(targets) for at in target]
    rows, ats = torch.tensor(places).T
    wanted[rows, ats] = 1.0
    loss = 10 * functional.binary_cross_entropy_with_logits(is_there[..., 0], wanted)
    known = torch.tensor([one for target in targets for one in target.values()])
    for column, logits in enumerate(named):
        loss = loss + functional.cross_entropy(logits[rows, ats], known[:, column])
    return loss


def _targets(things: Sequence[dict[str, object]]) -> dict[int, tuple[int, int, int]]:
    """By place: kind, colour and size, as numbers."""
    return {
        _cell(one)[1] * GRID + _cell(one)[0]: (
            KINDS.index(str(one["kind"])),
            COLOURS.index(str(one["colour"])),
            SIZES.index(str(one["size"])),
        )
        for one in things
    }


def _cell(thing: dict[str, object]) -> tuple[int, int]:
    """Column and row of the place where a thing's middle is."""
    x0, y0, x1, y1 = thing["box"]  # type: ignore[misc]
    return tuple(min(int((low + high) / 2 / SIDE * GRID), GRID - 1) for low, high in ((x0, x1), (y0, y1)))  # type: ignore[return-value]


def _normalised(pictures: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    return (pictures.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.25


def batches(pictures: np.ndarray, size: int = 100) -> Iterator[np.ndarray]:
    """Pictures, some at a time."""
    yield from (pictures[start : start + size] for start in range(0, len(pictures), size))
