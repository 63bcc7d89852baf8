"""Soft-DTW, forward and backward, beside tslearn and pysdtw: CPU time, memory, gradient error; barycentres.

    python benchmarks/soft_dtw.py [--rounds 7]
    python benchmarks/soft_dtw.py --plot        # docs/images/soft-dtw-gradients.png, nothing is timed

Every contender is a process of its own that stays alive, so that compiling is not timed; they take turns
(A B C, B C A, ...), one thread each, and what counts is the ratio of CPU times within a round. Values are
compared with the float64 truth before anything is timed. The truth is our plain PyTorch path in float64,
which the tests hold against PyTorch's autograd cell by cell. Extra memory is the peak of the resident set
during a step less what was resident before it. Writes `results/soft_dtw.json`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

CASES: dict[str, tuple[str, int, int, int, float]] = {
    "8 x 512 x 16 walks": ("walks", 8, 512, 16, 1.0),
    "8 x 512 x 16 unit vectors, gamma 0.1": ("units", 8, 512, 16, 0.1),
    "8 x 512 x 16 noise, gamma 100": ("noise", 8, 512, 16, 100.0),
    "64 x 128 x 4 walks": ("walks", 64, 128, 4, 1.0),
    "1 x 2048 x 16 walks": ("walks", 1, 2048, 16, 1.0),
}
SWEEP = {f"gamma {gamma:g}": ("walks", 2, 512, 16, gamma) for gamma in np.logspace(-2, 4, 13)}
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "soft-dtw-gradients.png"
BARYCENTRE = "DBA of 20 x 300 x 3 walks, 10 iterations"
CONTENDERS = ("sensorium", "pysdtw", "tslearn")


def inputs(case: str) -> tuple[Tensor, Tensor]:
    kind, batch, length, width, _ = (CASES | SWEEP)[case]
    stream = torch.Generator().manual_seed(0)
    x, y = (torch.randn(batch, length, width, generator=stream) for _ in range(2))
    if kind == "walks":
        x, y = x.cumsum(1), y.cumsum(1)
    elif kind == "units":
        x, y = normalize(x, dim=-1), normalize(y, dim=-1)
    return x.requires_grad_(), y.requires_grad_()


def walks() -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(0)
    return stream.standard_normal((20, 300, 3)).cumsum(1), stream.standard_normal((300, 3)).cumsum(0)


def loss_of(name: str, gamma: float) -> Callable[[Tensor, Tensor], Tensor]:
    if name == "sensorium":
        from sensorium.align import soft_dtw

        return lambda x, y: soft_dtw(x, y, gamma=gamma)
    if name == "pysdtw":
        import pysdtw

        return pysdtw.SoftDTW(gamma=gamma, use_cuda=False)
    from tslearn.metrics import SoftDTWLossPyTorch

    return SoftDTWLossPyTorch(gamma=gamma)


def average_of(name: str) -> Callable[[], np.ndarray] | None:
    series, start = walks()
    if name == "sensorium":
        from sensorium.align import dtw_barycentre

        return lambda: dtw_barycentre(series, init=start, iterations=10, tolerance=0.0).values
    if name == "tslearn":
        from tslearn.barycenters import dtw_barycenter_averaging_petitjean as average

        return lambda: average(series, init_barycenter=start, max_iter=10, tol=-1.0)
    return None


def work(name: str, case: str) -> Callable[[], list[Tensor]] | None:
    """One step, from inputs to value and gradients; None where the contender has no such thing."""
    if case == BARYCENTRE:
        average = average_of(name)
        return None if average is None else lambda: [torch.from_numpy(np.asarray(average()))]
    loss, (x, y) = loss_of(name, (CASES | SWEEP)[case][4]), inputs(case)

    def step() -> list[Tensor]:
        values = loss(x, y)
        return [values.detach(), *torch.autograd.grad(values.sum(), (x, y))]

    return step


def resident(field: str) -> float:
    """A line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def serve(name: str) -> None:
    """Child: for each case on a line of stdin, take a step and answer with its figures."""
    torch.set_num_threads(1)
    known: dict[str, Callable[[], list[Tensor]] | None] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if order["case"] not in known:
            known[order["case"]] = work(name, order["case"])
        step = known[order["case"]]
        if step is None:
            print("null", flush=True)
            continue
        if order["save"]:
            torch.save(step(), order["save"])  # compiles, too
            figures = {"extra_mib": extra_mib(step)}
        else:
            start = time.process_time()
            step()
            figures = {"cpu_s": time.process_time() - start}
        print(json.dumps(figures), flush=True)


def extra_mib(step: Callable[[], object]) -> float:
    """Peak of the resident set during a step less what was resident before it."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed but kept would hide what a step takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident("VmRSS")
    step()
    return resident("VmHWM") - before


class Contender:
    """A child process that takes steps when told to."""

    def __init__(self, name: str) -> None:
        from machine import PEERS

        python = sys.executable if name == "sensorium" else str(PEERS / "bin" / "python")
        self.process = subprocess.Popen(
            [python, "-W", "ignore", __file__, "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        )

    def step(self, case: str, save: str = "") -> dict[str, float] | None:
        """Take a step of a case, and save what it gave if there is a name for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"case": case, "save": save}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def truth(case: str) -> list[Tensor]:
    from sensorium.dtw import soft_pairs
    from sensorium.dtw.soft_warping import soft_dtw

    usable, soft_pairs.usable = soft_pairs.usable, lambda: False
    try:
        x, y = (one.detach().double().requires_grad_() for one in inputs(case))
        values = soft_dtw(x, y, gamma=(CASES | SWEEP)[case][4])
        return [values.detach(), *torch.autograd.grad(values.sum(), (x, y))]
    finally:
        soft_pairs.usable = usable


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def compare(case: str, contenders: dict[str, Contender]) -> dict[str, dict[str, float]]:
    """Memory, and relative errors of values and gradients; of barycentres, the difference from tslearn's."""
    found, table = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, contender in contenders.items():
            figures = contender.step(case, f"{folder}/{name}")
            if figures is not None:
                table[name] = {"extra MiB": round(figures["extra_mib"], 1)}
                found[name] = torch.load(f"{folder}/{name}", weights_only=True)
    wanted = found["tslearn"] if case == BARYCENTRE else truth(case)
    for name, results in found.items():
        of_value, *of_gradients = (relative(*pair) for pair in zip(results, wanted, strict=True))
        assert of_value < 1e-3, (name, of_value)
        table[name]["value error"] = of_value
        if of_gradients:
            table[name]["gradient error"] = max(of_gradients)
    assert table["sensorium"].get("gradient error", 0.0) < 1e-6, table
    return table


def measure(case: str, contenders: dict[str, Contender], rounds: int) -> list[dict[str, Any]]:
    from machine import in_turns, ratios

    table = compare(case, contenders)

    def take(name: str) -> float:
        figures = contenders[name].step(case)
        assert figures is not None
        return figures["cpu_s"]

    times = in_turns(list(table), rounds, take)
    over = ratios(times, "sensorium")
    rows = []
    for name in table:
        row = {
            "what": f"{case}: {name}",
            "CPU ms": round(1000 * statistics.median(times[name]), 2),
            "times ours": round(over[name]["median"], 2),
            "least and greatest": [round(over[name]["min"], 2), round(over[name]["max"], 2)],
            **{key: float(f"{value:.3g}") for key, value in table[name].items()},
        }
        print(json.dumps(row), file=sys.stderr)
        rows.append(row)
    return rows


def plot(contenders: dict[str, Contender]) -> None:
    """Error of the gradient against gamma, and averages of series whose peaks drift."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from sensorium.align import dtw_barycentre, soft_dtw_barycentre

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    found = {case: compare(case, contenders) for case in SWEEP}
    for name, mark in zip(CONTENDERS, "osv", strict=True):
        wrong = [table[name]["gradient error"] for table in found.values()]
        left.loglog([shape[4] for shape in SWEEP.values()], wrong, mark + "-", label=name, markersize=4)
    left.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    left.set(xlabel="gamma", ylabel="relative error", title="Gradient in float32, walks of 512 x 16")
    left.legend()
    time, stream = np.arange(121), np.random.default_rng(3)
    series = [
        np.exp(-(((time - 35 - a) / 5) ** 2)) - 0.7 * np.exp(-(((time - 75 - b) / 7) ** 2))
        for a, b in stream.uniform(-15, 15, (12, 2))
    ]
    right.plot(np.transpose(series), color="lightgrey", linewidth=0.8)
    right.plot(np.mean(series, axis=0), "--", color="grey", label="mean")
    right.plot(dtw_barycentre(series).values, label="dtw_barycentre")
    right.plot(soft_dtw_barycentre(series, gamma=0.1).values, label="soft_dtw_barycentre, gamma 0.1")
    right.set(xlabel="frame", title="Averages of 12 series whose peaks drift", ylim=(-0.8, 1.55))
    right.legend(loc="upper right")
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


def peers() -> str:
    from machine import PEERS

    code = (
        "from importlib.metadata import version as v; print(*(f'{n} {v(n)},' for n in ('tslearn', 'pysdtw')))"
    )
    order = [str(PEERS / "bin" / "python"), "-c", code]
    return subprocess.run(order, check=True, capture_output=True, text=True).stdout.strip(" ,\n")


def main() -> None:
    from machine import machine, require_idle, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    contenders = {name: Contender(name) for name in CONTENDERS}
    if options.plot:
        plot(contenders)
        return
    require_idle()
    rows = [row for case in (*CASES, BARYCENTRE) for row in measure(case, contenders, options.rounds)]
    figures = {
        "claim": "Soft-DTW in float32, forward and backward, and DTW barycentre averaging, on one core. "
        f"Batch x frames x width; gamma 1 where not said; {options.rounds} rounds.",
        "rounds": options.rounds,
        "machine": machine(("torch", "numpy", "numba")),
        "rows": rows,
        "notes": [
            f"Peers: {peers()}: `SoftDTWLossPyTorch`, `dtw_barycenter_averaging_petitjean`, "
            "`SoftDTW(use_cuda=False)`.",
            "Errors are relative, in the 2-norm, against float64: the gradient's is the greater of those for "
            "x and y. Of barycentres: the difference from tslearn's.",
            "No GPU was at hand: tensors there take the plain PyTorch path, tested on the CPU only.",
        ],
    }
    print(write("soft_dtw", figures))


if __name__ == "__main__":
    main()
