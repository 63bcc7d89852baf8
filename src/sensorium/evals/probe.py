"""Linear probe: how much of some labels a linear layer reads from frozen vectors.

In: vectors and labels to train on and to test on, optionally to choose the weight decay on. Out: accuracies.
Rules of CLIP_benchmark (`linear_probe`): normalised features, AdamW, cosine schedule without warm-up,
learning rate .1, 10 epochs; with a validation split the weight decay is searched coarse to fine on a grid of
97 from 1e-6 to 1e2, else it is 0. Unlike there, it runs on any device. It does not know how the vectors were
made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional

from sensorium.core.errors import UsageError
from sensorium.core.runtime import generator
from sensorium.evals.zero_shot import Accuracy, accuracy

WEIGHT_DECAYS: tuple[float, ...] = tuple(float(value) for value in np.logspace(-6, 2, num=97))
_COARSE_STEP = 16

Split = tuple[Float32[np.ndarray, "_ E"], Int64[np.ndarray, " _"]]
"""Vectors and labels."""


@dataclass(frozen=True)
class ProbeOptions:
    """How the layer is trained.

    Attributes:
        lr: First learning rate, > 0.
        num_epochs: Passes over the training rows, >= 1.
        batch_size: Rows a step, >= 1.
        seed: Of the initial weights and of the order of rows.
    """

    lr: float = 0.1
    num_epochs: int = 10
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Attributes:
        accuracy: On the test rows.
        weight_decay: The one that was used.
        num_train: Rows trained on.
    """

    accuracy: Accuracy
    weight_decay: float
    num_train: int


def linear_probe(
    train: Split, test: Split, *, validation: Split | None = None, options: ProbeOptions | None = None
) -> Probe:
    """Train a linear layer and measure it.

    Args:
        train: Vectors and labels 0..C-1.
        test: Vectors and labels to measure on.
        validation: To choose the weight decay on; the layer is then trained on `train` alone.
        options: Defaults to CLIP_benchmark's.

    Raises:
        UsageError: If there is nothing to train on.
    """
    options = options or ProbeOptions()
    num_classes = (
        int(max(split[1].max(initial=0) for split in (train, test, validation) if split is not None)) + 1
    )
    decay = 0.0 if validation is None else _best_decay(train, validation, num_classes, options)
    measured = _measure(train, test, num_classes, decay, options)
    return Probe(measured, decay, len(train[0]))


def _best_decay(train: Split, validation: Split, num_classes: int, options: ProbeOptions) -> float:
    """Coarse to fine: every 16th of the grid, then 8, 4, 2 and 1 to both sides of the best."""
    known: dict[int, float] = {}

    def best(places: list[int]) -> int:
        for place in places:
            if place not in known:
                known[place] = _measure(train, validation, num_classes, WEIGHT_DECAYS[place], options).acc1
        return max(places, key=lambda place: (known[place], -place))

    last = len(WEIGHT_DECAYS) - 1
    peak, step = best(list(range(0, last + 1, _COARSE_STEP))), _COARSE_STEP // 2
    while step > 0:
        peak = best([max(peak - step, 0), peak, min(peak + step, last)])
        step //= 2
    return WEIGHT_DECAYS[peak]


def probe_scores(
    train: Split,
    rows: Float32[np.ndarray, "n E"],
    *,
    num_classes: int,
    weight_decay: float = 0.0,
    options: ProbeOptions | None = None,
) -> Float32[np.ndarray, "n C"]:
    """Train a linear layer and score other rows.

    Args:
        train: Vectors and labels.
        rows: Vectors to score.
        num_classes: C.
        weight_decay: Of AdamW.
        options: Defaults to CLIP_benchmark's.

    Raises:
        UsageError: If there is nothing to train on.
    """
    if len(train[0]) == 0:
        raise UsageError("no rows to train the probe on")
    weight, bias = _fit(train, num_classes, weight_decay, options or ProbeOptions())
    with torch.no_grad():
        scores: Float32[np.ndarray, "n C"] = functional.linear(_unit(rows), weight, bias).numpy()
    return scores


def _measure(
    train: Split, test: Split, num_classes: int, weight_decay: float, options: ProbeOptions
) -> Accuracy:
    scores = probe_scores(train, test[0], num_classes=num_classes, weight_decay=weight_decay, options=options)
    return accuracy(scores, test[1])


def _fit(train: Split, num_classes: int, weight_decay: float, options: ProbeOptions) -> tuple[Tensor, Tensor]:
    features, labels = _unit(train[0]), torch.tensor(train[1])
    draws = generator(options.seed)
    bound = 1 / math.sqrt(features.shape[1])
    weight = ((2 * torch.rand(num_classes, features.shape[1], generator=draws) - 1) * bound).requires_grad_()
    bias = ((2 * torch.rand(num_classes, generator=draws) - 1) * bound).requires_grad_()
    optimizer = torch.optim.AdamW([weight, bias], lr=options.lr, weight_decay=weight_decay)
    num_batches = math.ceil(len(features) / options.batch_size)
    num_steps, step = options.num_epochs * num_batches, 0
    for _ in range(options.num_epochs):
        for rows in torch.randperm(len(features), generator=draws).split(options.batch_size):
            optimizer.param_groups[0]["lr"] = options.lr * 0.5 * (1 + math.cos(math.pi * step / num_steps))
            optimizer.zero_grad()
            functional.cross_entropy(functional.linear(features[rows], weight, bias), labels[rows]).backward()
            optimizer.step()
            step += 1
    return weight.detach(), bias.detach()


def _unit(rows: Float32[np.ndarray, "n E"]) -> Float32[Tensor, "n E"]:
    return functional.normalize(torch.tensor(rows), dim=1)
