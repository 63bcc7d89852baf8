"""Linear probe: accuracy of a linear classifier on frozen vectors.

Input: vectors and labels for training and testing, optionally for validation. Output: accuracies. The
protocol is that of CLIP_benchmark (`linear_probe`): normalised features, AdamW, cosine schedule without
warm-up, learning rate .1, 10 epochs. With a validation split, the weight decay is searched coarse to fine on
a grid of 97 values from 1e-6 to 1e2; otherwise it is 0.
"""

from __future__ import annotations

import functools
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
    """Training options.

    Attributes:
        lr: Initial learning rate, > 0.
        num_epochs: Epochs, >= 1.
        batch_size: Rows per step, >= 1.
        seed: Seed of the initial weights and of the order of rows.
    """

    lr: float = 0.1
    num_epochs: int = 10
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Probe:
    """Result of `linear_probe`.

    Attributes:
        accuracy: On the test rows.
        weight_decay: The selected value.
        num_train: Number of training rows.
    """

    accuracy: Accuracy
    weight_decay: float
    num_train: int


def linear_probe(
    train: Split, test: Split, *, validation: Split | None = None, options: ProbeOptions | None = None
) -> Probe:
    """Train a linear classifier and measure it on the test rows.

    Args:
        train: Vectors and labels 0..C-1.
        test: Vectors and labels.
        validation: Vectors and labels to select the weight decay; the classifier is not trained on them.
        options: Default: those of CLIP_benchmark.

    Raises:
        UsageError: If there is no training row.
    """
    options = options or ProbeOptions()
    splits = [split for split in (train, test, validation) if split is not None]
    num_classes = int(max(labels.max(initial=0) for _, labels in splits)) + 1
    decay = 0.0 if validation is None else _best_decay(train, validation, num_classes, options)
    measured = _measure(train, test, num_classes, decay, options)
    return Probe(measured, decay, len(train[0]))


def _best_decay(train: Split, validation: Split, num_classes: int, options: ProbeOptions) -> float:
    """Search coarse to fine: every 16th value of the grid, then 8, 4, 2, 1 steps beside the best."""

    @functools.cache
    def validate(place: int) -> float:
        return _measure(train, validation, num_classes, WEIGHT_DECAYS[place], options).acc1

    def best(places: list[int]) -> int:
        return max(places, key=lambda place: (validate(place), -place))

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
    """Train a linear classifier and return its logits for other rows.

    Args:
        train: Vectors and labels.
        rows: Vectors to score.
        num_classes: C.
        weight_decay: Weight decay of AdamW.
        options: Default: those of CLIP_benchmark.

    Raises:
        UsageError: If there is no training row.
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
