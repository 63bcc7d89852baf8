"""Memory and time of the contrastive losses: plain, open_clip's, ours; value and gradients included.

    python benchmarks/loss.py [--batches 256 1024 4096 16384] [--rounds 7]

Each measurement is a fresh process, and contenders take turns (A B C A B C ...). Extra memory is the peak of
the resident set during forward and backward less what was resident before, so the gradients of a and b (2 x B
x E) are in it. The gradients of all contenders are compared before anything is timed. Writes
`results/loss.json`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize

WIDTH, SCALE, BIAS, THREADS = 512, 20.0, -10.0, 2
FAMILIES = {
    "info_nce": ("plain", "open_clip", "sensorium"),
    "sigmoid": ("plain-sigmoid", "open_clip-sigmoid", "sensorium-sigmoid"),
}


def plain(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits, target = scale * a @ b.T, torch.arange(len(a))
    return cross_entropy(logits, target) + cross_entropy(logits.T, target)


def plain_sigmoid(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    sign = 2 * torch.eye(len(a)) - 1
    return -logsigmoid(sign * (scale * a @ b.T + bias)).sum() / len(a)


def open_clip(name: str) -> Callable[..., Tensor]:
    # Only the file with the losses: the package itself asks for torchvision.
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("open_clip is not in the peers' environment: see benchmarks/README.md")
    spec = importlib.util.spec_from_file_location("open_clip_loss", Path(found.origin).with_name("loss.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if name == "open_clip":
        clip = module.ClipLoss()
        return lambda a, b, scale, bias: 2 * clip(a, b, scale)
    siglip = module.SigLipLoss()
    return lambda a, b, scale, bias: siglip(a, b, scale, bias)


def contender(name: str) -> Callable[..., Tensor]:
    if name.startswith("plain"):
        return plain if name == "plain" else plain_sigmoid
    if name.startswith("open_clip"):
        return open_clip(name)
    from sensorium.losses import info_nce, sigmoid

    return (lambda a, b, s, _: info_nce(a, b, s)) if name == "sensorium" else sigmoid


def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    a = normalize(torch.randn(batch, WIDTH, generator=stream), dim=1)
    b = normalize(a + 0.1 * torch.randn(batch, WIDTH, generator=stream), dim=1)
    return (
        a.requires_grad_(),
        b.requires_grad_(),
        torch.tensor(SCALE, requires_grad=True),
        torch.tensor(BIAS, requires_grad=True),
    )


def status(field: str) -> float:
    """A line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def step(name: str, batch: int, repeats: int, save: str) -> None:
    """Child: take `repeats` steps, print the figures of the whole as one JSON line."""
    torch.set_num_threads(THREADS)
    loss_of = contender(name)
    loss_of(*inputs(64)).backward()
    tensors = inputs(batch)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = status("VmRSS")
    wall, cpu = [], []
    for _ in range(repeats):
        for tensor in tensors:
            tensor.grad = None
        used, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        loss = loss_of(*tensors)
        loss.backward()
        wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu.append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
    extra = status("VmHWM") - before
    if save:
        torch.save([loss.detach(), *(tensor.grad for tensor in tensors)], save)
    figures = {"wall_s": statistics.median(wall), "cpu_s": statistics.median(cpu), "extra_mib": extra}
    print(json.dumps(figures))


def measure(name: str, batch: int, repeats: int, save: str = "") -> dict[str, float]:
    from machine import PEERS

    python = str(PEERS / "bin" / "python") if name.startswith("open_clip") else sys.executable
    order = [python, __file__, "--step", name, str(batch), str(repeats), save]
    return json.loads(subprocess.run(order, check=True, capture_output=True, text=True).stdout)


def check_equal(names: tuple[str, ...], batch: int) -> dict[str, float]:
    """Greatest relative error, over value and gradients, of each contender against the plain form."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            measure(name, batch, 1, f"{folder}/{name}")
        results = {name: torch.load(f"{folder}/{name}", weights_only=True) for name in names}
    errors = {}
    for name in names[1:]:
        pairs = [(x, y) for x, y in zip(results[name], results[names[0]], strict=True) if y is not None]
        errors[name] = max(float((x - y).norm() / y.norm()) for x, y in pairs)
        assert errors[name] < 1e-5, (name, errors[name])
    return errors


def compare(names: tuple[str, ...], batch: int, rounds: int) -> dict[str, object]:
    from machine import in_turns, ratios, spread

    repeats = max(1, 16384 // batch // 2)
    table = in_turns(names, rounds, lambda name: measure(name, batch, repeats))
    wall, cpu = (
        ratios({name: [row[key] for row in rows] for name, rows in table.items()}, names[0])
        for key in ("wall_s", "cpu_s")
    )
    figures: dict[str, object] = {}
    for name in names:
        figures[name] = {key: spread([row[key] for row in table[name]]) for key in table[name][0]} | {
            "wall_vs_plain": wall[name],
            "cpu_vs_plain": cpu[name],
        }
        print(batch, name, json.dumps(figures[name]), file=sys.stderr)
    return figures


def main() -> None:
    from machine import machine, require_idle, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024, 4096, 16384])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, batch, repeats, save = options.step
        step(name, int(batch), int(repeats), save)
        return
    require_idle()
    figures: dict[str, object] = {
        "machine": machine(),
        "width": WIDTH,
        "threads": THREADS,
        "rounds": options.rounds,
    }
    for family, names in FAMILIES.items():
        errors = dict.fromkeys(names[1:], 0.0)
        for batch in options.batches:
            errors = {name: max(errors[name], error) for name, error in check_equal(names, batch).items()}
        sizes = {str(batch): compare(names, batch, options.rounds) for batch in options.batches}
        figures[family] = {"relative_error": errors, "batches": sizes}
    print(write("loss", figures))


if __name__ == "__main__":
    main()
