"""Recall on what was held out: trains a recipe with several seeds, measures each, and means them.

    sensorium bench recall stamps --seeds 0 1 2
    sensorium bench recall emoji-scratch --seeds 0

Runs that exist are resumed or measured as they are (`runs/<recipe>-<seed>`). Each seed has its own split, so
the spread holds both the luck of the split and that of the weights.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from machine import machine, write

ROOT = Path(__file__).parents[1]
CLAIMS = {
    "stamps": "Held-out stamps: a fifth of the captions unseen, split by caption.",
    "emoji-scratch": "Emoji of a vendor never seen (Facebook's), by a CNN and a GRU from random weights.",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", choices=CLAIMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found = [measure(arguments.recipe, seed) for seed in arguments.seeds]
    reports = [figures for figures, _ in found]
    seeds = " ".join(str(seed) for seed in arguments.seeds)
    pairs = [pair for pair, figures in reports[0].items() if "R@1" in figures]
    rows = [mean_row(pair, [report[pair] for report in reports]) for pair in pairs]
    figures = {
        "claim": CLAIMS[arguments.recipe],
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sensorium", "onnxruntime")),
        "rows": rows,
        "notes": [
            f"mean of seeds {arguments.seeds}; ± is a 95 % interval of that mean (Student's t)"
            if len(reports) > 1
            else "one seed; ± is the 95 % bootstrap interval over queries",
            "minutes of training by the clock: " + ", ".join(str(round(minutes, 1)) for _, minutes in found),
            f"command: sensorium bench recall {arguments.recipe} --seeds {seeds}",
        ],
    }
    print(write(arguments.recipe.replace("-", "_"), figures))


def measure(recipe: str, seed: int) -> tuple[dict[str, dict[str, float]], float]:
    """Train (or finish, or find) the run of one seed, and evaluate it by the command line.

    Returns:
        The figures, and the minutes that training took by the clock (the last stretch, if it was resumed).
    """
    run = ROOT / "runs" / f"{recipe}-{seed}"
    finished = run / "trained"
    if not finished.exists():
        resume = ["--resume"] if (run / "last").exists() else []
        begun = time.monotonic()
        sensorium("train", recipe, "-o", str(run), "--set", f"seed={seed}", *resume)
        finished.write_text(str((time.monotonic() - begun) / 60))
    figures = json.loads(sensorium("eval", str(run), "--json"))["metrics"]
    return figures, float(finished.read_text() or "nan")


def sensorium(*words: str) -> str:
    command = [sys.executable, "-m", "sensorium", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


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
    main()
