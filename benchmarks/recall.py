"""Recall on what was held out: trains a recipe with several seeds, measures each, and means them.

    sensorium bench recall stamps --seeds 0 1 2
    sensorium bench recall emoji-scratch --seeds 0

Runs that exist are resumed or measured as they are (`runs/<recipe>-<seed>`). Each seed has its own split, so
the spread holds both the luck of the split and that of the weights. CPU time is user and system time of the
trainer and of its decoding processes (Linux).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import resource
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from machine import machine, write

ROOT = Path(__file__).parents[1]
CLAIMS = {
    "stamps": "Held-out stamps: a fifth of the captions unseen, split by caption.",
    "emoji-scratch": "Emoji of a vendor never seen, by a CNN and a GRU from random weights.",
}
SOME_ROWS_FAILED = 3  # exit code of a command that did all the rest
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Stretch:
    """What one stretch of training cost: all of it, unless the run was resumed."""

    minutes: float
    cpu_minutes: float
    is_whole: bool


@dataclass(frozen=True)
class Measured:
    """One seed's run: figures by pair, cost, the recipe as it was run, and its log."""

    figures: dict[str, dict[str, float]]
    cost: Stretch
    recipe: dict[str, dict[str, object]]
    log: list[dict[str, object]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", choices=CLAIMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found = [measure(arguments.recipe, seed) for seed in arguments.seeds]
    reports = [one.figures for one in found]
    unread = max(num_unread(arguments.recipe, seed) for seed in arguments.seeds)
    seeds = " ".join(str(seed) for seed in arguments.seeds)
    pairs = [pair for pair, figures in reports[0].items() if "R@1" in figures]
    rows = [mean_row(pair, [report[pair] for report in reports]) for pair in pairs]
    figures = {
        "claim": CLAIMS[arguments.recipe],
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sensorium", "onnxruntime")),
        "rows": rows,
        "curve": curve(found[0]),
        "notes": [
            f"mean of seeds {arguments.seeds}; ± is a 95 % interval of that mean (Student's t)"
            if len(reports) > 1
            else "one seed; ± is the 95 % bootstrap interval over queries",
            f"held out: {held_out(found[0].recipe)}",
            f"rows that could not be read: {unread} (told by the run that fills the cache)",
            f"cost of training: {', '.join(map(cost, found))}",
            f"command: sensorium bench recall {arguments.recipe} --seeds {seeds}",
        ],
    }
    print(write(arguments.recipe.replace("-", "_"), figures))


def measure(recipe: str, seed: int) -> Measured:
    """Train (or finish, or find) the run of one seed, and evaluate it by the command line."""
    run = ROOT / "runs" / f"{recipe}-{seed}"
    finished = run / "trained.json"
    if not finished.exists():
        is_resumed = (run / "last").exists()
        resume = ["--resume"] if is_resumed else []
        begun, cpu_before = time.monotonic(), cpu_s_of_children()
        sensorium("train", recipe, "-o", str(run), "--set", f"seed={seed}", *resume)
        reap()
        stretch = Stretch(
            minutes=(time.monotonic() - begun) / 60,
            cpu_minutes=(cpu_s_of_children() - cpu_before) / 60,
            is_whole=not is_resumed,
        )
        finished.write_text(json.dumps(asdict(stretch)))
    return Measured(
        figures=json.loads(sensorium("eval", str(run), "--json"))["metrics"],
        cost=Stretch(**json.loads(finished.read_text())),
        recipe=tomllib.loads((run / "recipe.toml").read_text()),
        log=[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()],
    )


def cpu_s_of_children() -> float:
    """User and system time of the processes that ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def adopt_orphans() -> None:
    """Let the decoding processes, whose parent does not wait for them, end as children of this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap() -> None:
    """Wait for the adopted; only then do they count."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def curve(run: Measured) -> list[dict[str, float]]:
    """R@1 of each pair at each evaluation, by passes over the training rows."""
    train = run.recipe["train"]
    lines = [line for line in run.log if "score" in line]
    last = int(lines[-1]["step"])  # type: ignore[call-overload]
    points: list[dict[str, float]] = []
    for line in lines:
        step = int(line["step"])  # type: ignore[call-overload]
        point: dict[str, float] = {"step": step}
        if "epochs" in train:
            point["passes"] = round(step / last * float(train["epochs"]), 1)  # type: ignore[arg-type]
        point |= {
            f"{pair} R@1": round(found["R@1"], 3)
            for pair, found in line.items()
            if isinstance(found, dict) and "R@1" in found
        }
        points.append(point)
    return points


def held_out(recipe: dict[str, dict[str, object]]) -> str:
    """What a run was measured on, in words."""
    test = recipe["data"]["test"]
    if isinstance(test, dict):
        return f"every row of {test['source']}, none of which trains"
    return f"{test} of the groups"


def cost(run: Measured) -> str:
    """What training took."""
    part = "" if run.cost.is_whole else " (the last stretch of a run that was resumed)"
    return f"{run.cost.cpu_minutes:.1f} minutes of CPU time, {run.cost.minutes:.0f} by the clock{part}"


def sensorium(*words: str) -> str:
    command = [sys.executable, "-m", "sensorium", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, SOME_ROWS_FAILED):
        sys.exit(f"{' '.join(words)} ended with {done.returncode}")
    return done.stdout


def num_unread(recipe: str, seed: int) -> int:
    """Rows that a run could not read, such as drawings beyond the limit of pixels."""
    errors = ROOT / "runs" / f"{recipe}-{seed}" / "errors.jsonl"
    return len(errors.read_text().splitlines()) if errors.exists() else 0


def mean_row(pair: str, found: list[dict[str, float]]) -> dict[str, object]:
    """One line of the table: means over seeds, and half the width of their interval."""
    row: dict[str, object] = {"what": pair}
    for name in ("R@1", "R@5", "R@10", "chance@10", "queries", "items"):
        values = [figures[name] for figures in found if name in figures]
        if values:
            row[name] = round(float(np.mean(values)), 4 if name.startswith("chance") else 3)
            if name in ("R@1", "R@10"):
                row[f"± {name}"] = round(half_width(name, found), 3)
    return row


def half_width(name: str, found: list[dict[str, float]]) -> float:
    """Half of a 95 % interval: over seeds, or over queries where there is one seed."""
    if len(found) == 1:
        low, high = found[0][f"ci95 {name}"]  # type: ignore[misc]
        return (high - low) / 2
    student = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[len(found)]
    return student * float(np.std([figures[name] for figures in found], ddof=1)) / math.sqrt(len(found))


if __name__ == "__main__":
    adopt_orphans()
    main()
