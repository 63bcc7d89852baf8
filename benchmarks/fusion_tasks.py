"""Tasks for fusions: three made ones whose best score is known for every subset, and the stamps.

Each gives rows to train on and rows to test on: tokens of each modality, which row has which, a label. In the
made tasks a modality says a bit by the sign of a hidden direction in one of its tokens, the others are noise.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sensorium.core.errors import NotFoundError
from sensorium.core.runtime import cache_dir
from sensorium.core.types import Tokens
from sensorium.data.loading.split import split
from sensorium.data.table.table import Table

Subset = tuple[str, ...]
SIGNAL, NOISE = 3.0, 0.3
RIGHT = 0.8
MIN_CAPTIONS = 10
STAMPS_FEATURES = {
    "image": ("image:efficientnet-lite0:", ":views-4"),
    "text": ("text:minilm-l6:", ":en"),
    "speech": ("speech:whisper-tiny.en:", ":all"),
    "audio": ("audio:whisper-tiny.en:", ":all"),
}


@dataclass(frozen=True)
class Rows:
    """Labelled rows; `present` has the columns of `features`."""

    features: Mapping[str, Tokens]
    present: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Rows:
        """Some rows, padded no longer than they need."""
        features = {name: _cut(one.values[rows], one.mask[rows]) for name, one in self.features.items()}
        return Rows(features, self.present[rows], self.labels[rows])


@dataclass(frozen=True)
class Task:
    """What to learn, on what it is measured and, where it is known, the best accuracy for each subset."""

    name: str
    num_classes: int
    train: Rows
    test: Rows
    best: Mapping[Subset, float] | None = None

    @property
    def dims(self) -> dict[str, int]:
        """Width of each modality."""
        return {name: one.values.shape[2] for name, one in self.train.features.items()}

    @property
    def lengths(self) -> dict[str, int]:
        """Mean number of tokens, where there are any."""
        counts = {name: one.mask.sum(dim=1) for name, one in self.test.features.items()}
        return {name: round(float(count[count > 0].float().mean())) for name, count in counts.items()}


def subsets(names: Sequence[str]) -> list[Subset]:
    """All 2^M subsets, the empty one first."""
    return [one for size in range(len(names) + 1) for one in itertools.combinations(names, size)]


MADE_DIMS = {"sight": 23, "sound": 11, "words": 17}
MADE_LENGTHS = {"sight": 7, "sound": 5, "words": 3}


def xor(draws: torch.Generator, num_rows: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draw bits with y = bit of sight XOR bit of sound; the words know nothing."""
    bits = _bits(draws, num_rows)
    return bits, bits["sight"] ^ bits["sound"]


def redundancy(draws: torch.Generator, num_rows: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draw y, which each modality says and is right four times in five."""
    labels = torch.randint(2, (num_rows,), generator=draws)
    wrong = {name: torch.rand(num_rows, generator=draws) > RIGHT for name in MADE_DIMS}
    return {name: labels ^ flip.long() for name, flip in wrong.items()}, labels


def unique(draws: torch.Generator, num_rows: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draw bits that make y, one of eight: each modality knows one of its three bits."""
    bits = _bits(draws, num_rows)
    return bits, bits["sight"] * 4 + bits["sound"] * 2 + bits["words"]


def best_xor(subset: Subset) -> float:
    return 1.0 if {"sight", "sound"} <= set(subset) else 0.5


def best_redundancy(subset: Subset) -> float:
    """A vote; two that differ leave a guess, so that the second adds nothing."""
    return {0: 0.5, 1: RIGHT, 2: RIGHT, 3: round(RIGHT**3 + 3 * RIGHT**2 * (1 - RIGHT), 4)}[len(subset)]


def best_unique(subset: Subset) -> float:
    return 0.5 ** (3 - len(subset))


Draw = Callable[[torch.Generator, int], tuple[dict[str, Tensor], Tensor]]
MADE: dict[str, tuple[Draw, int, Callable[[Subset], float]]] = {
    "xor": (xor, 2, best_xor),
    "redundancy": (redundancy, 2, best_redundancy),
    "unique": (unique, 8, best_unique),
}


def made_task(name: str, seed: int, num_train: int, num_test: int = 2_000) -> Task:
    """One of the made tasks; directions, rows and noise are drawn anew for each seed."""
    draw, num_classes, best = MADE[name]
    draws = torch.Generator().manual_seed(seed)
    directions = {
        one: functional.normalize(torch.randn(dim, generator=draws), dim=0) for one, dim in MADE_DIMS.items()
    }

    def rows(count: int) -> Rows:
        bits, labels = draw(draws, count)
        features = {one: _say(draws, bits[one], MADE_LENGTHS[one], directions[one]) for one in MADE_DIMS}
        return Rows(features, torch.ones(count, len(MADE_DIMS), dtype=torch.bool), labels)

    known = {subset: best(subset) for subset in subsets(list(MADE_DIMS))}
    return Task(name, num_classes, rows(num_train), rows(num_test), known)


def stamps_task(seed: int) -> Task:
    """Top folder of a stamp from its picture (4 views), English caption and what is heard (a token a clip).

    What is heard is the sound of the thing, where there is one, and its spoken captions. Folders with fewer
    than ten captions are left out. A quarter of the captions is held out, with all rows that have them.

    Raises:
        NotFoundError: If the table or its features are not there.
    """
    path = cache_dir("tables") / "stamps.lance"
    if not path.exists():
        raise NotFoundError(f"no table at {path}; make it and its features: sensorium train stamps")
    table = Table.open(path)
    folders = [meta["category"].split("/")[0] for meta in table.column("meta")]
    captions = Counter(folder for folder, _ in set(zip(folders, table.groups, strict=True)))
    classes = sorted(folder for folder, count in captions.items() if count >= MIN_CAPTIONS)
    kept = np.array([folder in classes for folder in folders])
    parts = split(table.groups, test=0.25, seed=seed)
    features = _stamps_features(table)
    labels = torch.tensor([classes.index(one) if one in classes else -1 for one in folders])
    present = torch.stack([one.mask.any(dim=1) for one in features.values()], dim=1)
    rows = Rows(features, present, labels)
    train, test = (rows.take(torch.from_numpy(part[kept[part]])) for part in (parts["train"], parts["test"]))
    return Task("stamps", len(classes), train, test)


def _stamps_features(table: Table) -> dict[str, Tokens]:
    found = {field: table.features(_feature_name(table, *ends)) for field, ends in STAMPS_FEATURES.items()}
    rows = range(len(table))
    heard = [np.concatenate([found["audio"][row], found["speech"][row]]) for row in rows]
    return {
        "image": _pad([found["image"][row] for row in rows]),
        "text": _pad([found["text"][row] for row in rows]),
        "audio": _pad(heard),
    }


def _feature_name(table: Table, start: str, end: str) -> str:
    names = sorted(one for one in table.feature_names() if one.startswith(start) and one.endswith(end))
    if not names:
        raise NotFoundError(f"no features {start}*{end} in {table.path}; run: sensorium train stamps")
    return names[0]


def _pad(items: Sequence[np.ndarray]) -> Tokens:
    lengths = torch.tensor([len(item) for item in items])
    values = torch.zeros(len(items), int(lengths.max()), items[0].shape[1])
    for row, item in zip(values, items, strict=True):
        row[: len(item)] = torch.from_numpy(item)
    return Tokens(values, torch.arange(values.shape[1]) < lengths[:, None])


def _cut(values: Tensor, mask: Tensor) -> Tokens:
    longest = max(1, int(mask.sum(dim=1).max()))
    return Tokens(values[:, :longest], mask[:, :longest])


def _bits(draws: torch.Generator, num_rows: int) -> dict[str, Tensor]:
    return {name: torch.randint(2, (num_rows,), generator=draws) for name in MADE_DIMS}


def _say(draws: torch.Generator, bits: Tensor, longest: int, direction: Tensor) -> Tokens:
    """A sequence of 2 to `longest` tokens, one of which says the bit."""
    num_rows = len(bits)
    values = NOISE * torch.randn(num_rows, longest, len(direction), generator=draws)
    lengths = torch.randint(2, longest + 1, (num_rows,), generator=draws)
    place = (torch.rand(num_rows, generator=draws) * lengths).long()
    values[torch.arange(num_rows), place] += SIGNAL * (2 * bits[:, None] - 1) * direction
    return Tokens(values, torch.arange(longest) < lengths[:, None])


def batches(num_rows: int, size: int, steps: int, draws: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of `steps` batches: all rows in a new order, again and again."""
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(num_rows, generator=draws)])
        yield waiting[:size]
        waiting = waiting[size:]
