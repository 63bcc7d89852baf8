"""The learning rate over a run: a line up, half a cosine down."""

from __future__ import annotations

import math

from sensorium.core.errors import ConfigError


def learning_rate(step: int, *, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Learning rate of a step: peak (s + 1) / warmup, then floor + (peak - floor) (1 + cos pi t) / 2.

    Args:
        step: Step s that is about to be taken, from 0.
        peak: Rate after the warm-up.
        warmup: Steps of the warm-up.
        total: Steps of the run; t goes from 0 after the warm-up to 1 at the last step.
        floor: Rate at the end.

    Raises:
        ConfigError: If the warm-up is longer than the run.

    Example:
        >>> [learning_rate(step, peak=1.0, warmup=2, total=5) for step in range(5)]
        [0.5, 1.0, 1.0, 0.5, 0.0]

    Reference:
        Loshchilov and Hutter, arXiv 1608.03983, eq. 5, without restarts.
    """
    if warmup > total:
        raise ConfigError(f"warmup={warmup} is longer than the run of {total} steps; lower train.warmup")
    if step < warmup:
        return peak * (step + 1) / warmup
    fraction = min(1.0, (step - warmup) / max(1, total - 1 - warmup))
    return floor + (peak - floor) * (1 + math.cos(math.pi * fraction)) / 2
