"""Frozen towers by backend: samples per second and error against eager fp32, for each pretrained encoder.

    python benchmarks/towers.py [ROUNDS]

Backends take turns within a round (A B C A B C ...), and what counts are ratios to eager of the same round:
a busy machine slows all alike. Rates are medians and belong to the machine and its load. Writes
`results/towers.json`.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from machine import machine, spread, write
from sensorium.core.types import Padded
from sensorium.encoders import ENCODERS
from sensorium.encoders.backend import BACKENDS, EAGER, MAX_ERROR, relative_error, run_through

ROUNDS = 7


def examples() -> dict[str, Padded]:
    """Batches like those of the stamps: pictures, captions of 4 to 12 tokens, clips of .5 to 2 s."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 224, 224, generator=generator)
    ids = torch.randint(1000, 20_000, (32, 12), generator=generator)
    frames = torch.randn(16, 200, 80, generator=generator).clamp(-1, 1.5)
    words = torch.randint(4, 13, (32, 1), generator=generator)
    lengths = torch.randint(50, 201, (16, 1), generator=generator)
    return {
        "efficientnet-lite0": Padded(images, torch.ones(16, 1, dtype=torch.bool)),
        "minilm-l6": Padded(ids, torch.arange(12)[None] < words),
        "whisper-tiny.en": Padded(frames, torch.arange(200)[None] < lengths),
    }


def measure(name: str, example: Padded, rounds: int) -> dict[str, dict[str, object]]:
    encoder = ENCODERS.build(name)
    runs = {backend: run_through(backend, encoder, example) for backend in BACKENDS}
    reference = runs[EAGER](example)
    errors = {backend: relative_error(run(example), reference) for backend, run in runs.items()}
    seconds: dict[str, list[float]] = {backend: [] for backend in runs}
    for _ in range(rounds):
        for backend, run in runs.items():
            start = time.perf_counter()
            run(example)
            seconds[backend].append(time.perf_counter() - start)
    return {
        backend: {
            "samples_per_s": round(len(example.values) / statistics.median(times), 1),
            "speed_over_eager": spread([a / b for a, b in zip(seconds[EAGER], times, strict=True)]),
            "relative_error": errors[backend],
            "within_bound": errors[backend] <= MAX_ERROR,
        }
        for backend, times in seconds.items()
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    results = {name: measure(name, example, rounds) for name, example in examples().items()}
    here = machine(("torch", "onnxruntime"))
    path = write("towers", {"machine": here, "rounds": rounds, "max_error": MAX_ERROR, "towers": results})
    print(path.read_text())


if __name__ == "__main__":
    main()
