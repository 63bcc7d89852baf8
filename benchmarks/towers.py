"""Frozen towers by backend: samples per second and error against eager fp32, for each pretrained encoder.

    python benchmarks/towers.py [--rounds 9]

One thread; what counts is the ratio of CPU times to eager within a round. PyTorch has its best settings in
rows of their own: pictures channels-last, and `torch.compile`. Writes `results/towers.json`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from machine import in_turns, machine, ratios, require_idle, write
from sensorium.core.types import Padded, Tokens
from sensorium.encoders import ENCODERS
from sensorium.encoders.backend import BACKENDS, EAGER, MAX_ERROR, relative_error, use_backend


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


def contenders(name: str, example: Padded) -> dict[str, Callable[[], Tokens]]:
    """What runs the encoder on the example, by name."""
    runs: dict[str, Callable[[], Tokens]] = {}
    for backend in BACKENDS:
        run = use_backend(backend, ENCODERS.build(name), example)
        runs[backend] = lambda run=run: run(example)
    compiled = torch.compile(ENCODERS.build(name))
    runs["compiled"] = torch.no_grad()(lambda: compiled(example))
    if example.values.ndim == 4:
        last = ENCODERS.build(name).to(memory_format=torch.channels_last)
        moved = replace(example, values=example.values.contiguous(memory_format=torch.channels_last))
        runs["channels-last"] = torch.no_grad()(lambda: last(moved))
        both = torch.compile(ENCODERS.build(name).to(memory_format=torch.channels_last))
        runs["channels-last, compiled"] = torch.no_grad()(lambda: both(moved))
    return runs


def measure(name: str, example: Padded, rounds: int) -> dict[str, dict[str, object]]:
    runs = contenders(name, example)
    reference = runs[EAGER]()
    errors = {backend: relative_error(run(), reference) for backend, run in runs.items()}

    def take(backend: str) -> float:
        start = time.process_time()
        runs[backend]()
        return time.process_time() - start

    times = in_turns(list(runs), rounds, take)
    speeds = ratios({backend: [1 / one for one in values] for backend, values in times.items()}, EAGER)
    return {
        backend: {
            "samples_per_s": round(len(example.values) / statistics.median(values), 1),
            "speed_over_eager": speeds[backend],
            "relative_error": errors[backend],
            "within_bound": errors[backend] <= MAX_ERROR,
        }
        for backend, values in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_NUM_THREADS": "1"})
    require_idle()
    torch.set_num_threads(1)
    results = {name: measure(name, example, rounds) for name, example in examples().items()}
    here = machine(("torch", "onnxruntime"))
    path = write("towers", {"machine": here, "rounds": rounds, "max_error": MAX_ERROR, "towers": results})
    print(path.read_text())


if __name__ == "__main__":
    main()
