"""Memory and time of the loss of the next id over a large vocabulary: plain, ours; gradients included.

    python benchmarks/generative_loss.py [--places 512 2048] [--rounds 7]

SmolLM2's sizes: 576 wide, 49,152 ids. Each measurement is a fresh process on one thread, and contenders take
turns. Extra memory is the peak of the resident set during forward and backward less what was resident before;
the gradients of hidden vectors and matrix are in it. `frozen` leaves the matrix without a gradient, as
training over a frozen language model does. Values and gradients are compared before anything is timed. Writes
`results/generative_loss.json`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sensorium.losses import next_id_loss

WIDTH, IDS = 576, 49_152
CONTENDERS = ("plain", "sensorium", "plain frozen", "sensorium frozen")


def loss_of(name: str, hidden: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
    if name.startswith("plain"):
        return cross_entropy(hidden @ matrix.T, targets)
    return next_id_loss(hidden, matrix, targets)


def inputs(name: str, places: int, ids: int = IDS) -> tuple[Tensor, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    hidden = torch.randn(places, WIDTH, generator=stream).requires_grad_()
    matrix = (0.05 * torch.randn(ids, WIDTH, generator=stream)).requires_grad_("frozen" not in name)
    return hidden, matrix, torch.randint(ids, (places,), generator=stream)


def status(field: str) -> float:
    """A line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def step(name: str, places: int) -> None:
    """Child: one step after a small one; prints its figures as JSON."""
    torch.set_num_threads(1)
    loss_of(name, *inputs(name, 16, 64)).backward()
    tensors = inputs(name, places)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, used = status("VmRSS"), resource.getrusage(resource.RUSAGE_SELF)
    loss_of(name, *tensors).backward()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    print(json.dumps({"cpu_s": cpu, "extra_mib": status("VmHWM") - before}))


def child(name: str, places: int) -> dict[str, float]:
    """One step in a fresh process."""
    order = [sys.executable, __file__, "--step", name, str(places)]
    return json.loads(subprocess.run(order, check=True, capture_output=True, text=True).stdout)


def error() -> float:
    """Greatest relative error of value and gradients against the plain form."""
    found = []
    for name in ("plain", "sensorium"):
        hidden, matrix, targets = inputs(name, 301, 7001)
        loss = loss_of(name, hidden, matrix, targets)
        found.append([loss.detach(), *torch.autograd.grad(loss, (hidden, matrix))])
    return max(float((ours - base).norm() / base.norm()) for base, ours in zip(*found, strict=True))


def main() -> None:
    from machine import in_turns, machine, ratios, require_idle, spread, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step(options.step[0], int(options.step[1]))
        return
    require_idle()
    figures: dict[str, object] = {
        "machine": machine(),
        "width": WIDTH,
        "ids": IDS,
        "rounds": options.rounds,
        "relative_error": error(),
    }
    for places in options.places:
        table = in_turns(CONTENDERS, options.rounds, lambda name, places=places: child(name, places))
        cpu = {name: [row["cpu_s"] for row in rows] for name, rows in table.items()}
        over = ratios(cpu, "plain") | {
            name: one for name, one in ratios(cpu, "plain frozen").items() if name.endswith("frozen")
        }
        figures[str(places)] = {
            name: {key: spread([row[key] for row in rows]) for key in rows[0]} | {"over plain": over[name]}
            for name, rows in table.items()
        }
    print(write("generative_loss", figures))


if __name__ == "__main__":
    main()
