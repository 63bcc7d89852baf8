"""Phrases to boxes on composed scenes: with boxes and without, beside random, centre and whole-image boxes.

    sensorium bench grounding
    sensorium bench grounding --table scenes.lance --with-boxes runs/a --captions runs/b
    sensorium bench grounding --only captions

Composes the scenes and trains the two recipes where that was not done yet (`runs/`), then measures every
held-out scene. Accuracy: the first box overlaps a true one by half or more. With `--only` the other recipe
is neither trained nor measured: its rows stay as the last results have them, and a note says of which day.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from machine import RESULTS, machine, write
from sensorium.data.table.table import Table
from sensorium.evals.bootstrap import bootstrap_interval
from sensorium.evals.grounding import Grounded, baselines, grounding_metrics, overlaps
from sensorium.models.checkpoint import load
from sensorium.models.grounder import Grounder
from sensorium.training.grounding.task import measure_rows
from sensorium.training.log import read_log

ROOT = Path(__file__).parents[1]
PARTS = {
    "seen combinations": "scenes-seen",
    "unseen combinations": "scenes-combinations",
    "unseen objects": "scenes-objects",
}
SHOWN = ("R@5", "merged R@1", "pointing", "absent AUROC", "phrases")
Measured = dict[str, list[tuple[Grounded, str]]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", type=Path, default=ROOT / "runs" / "scenes.lance")
    parser.add_argument("--with-boxes", type=Path, default=ROOT / "runs" / "grounding")
    parser.add_argument("--captions", type=Path, default=ROOT / "runs" / "grounding-captions")
    parser.add_argument("--limit", type=int, default=1000, help="held-out scenes of each part")
    parser.add_argument("--only", choices=["boxes", "captions"], help="measure this one alone")
    arguments = parser.parse_args()
    table = scenes(arguments.table)
    rows: list[dict[str, object]] = []
    notes = ["± is half of a 95 % bootstrap interval over phrases; one seed"]
    measured: Measured = {}
    for name, kind, recipe, run in (
        ("boxes", "with boxes", "grounding", arguments.with_boxes),
        ("captions", "captions alone", "grounding-captions", arguments.captions),
    ):
        if arguments.only not in (None, name):
            own_rows, note = kept(kind)
            rows += own_rows
            notes.append(note)
            continue
        trained(recipe, run, arguments.table)
        model = load(run, Grounder)
        started = time.process_time()
        measured = measure(model, table, arguments.limit)
        per_image = (time.process_time() - started) / (arguments.limit * len(PARTS))
        rows += [row(f"{kind}: {part}", [one for one, _ in found]) for part, found in measured.items()]
        rows += by_type(kind, measured["seen combinations"])
        if name == "captions":
            rows += by_chance(kind, measured)
        notes.append(f"{kind}: {describe(run, model)}; {1000 * per_image:.0f} ms of CPU an image to measure")
    for part, found in measured.items():
        plain = baselines([one for one, _ in found])
        rows += [row(f"{name}: {part}", boxes) for name, boxes in plain.items()]
    figures = {
        "claim": "Composed scenes: which box does a phrase name? Accuracy at IoU .5.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sensorium")),
        "rows": rows,
        "notes": [*notes, " ".join(["command: sensorium bench grounding", *sys.argv[1:]])],
    }
    print(write("grounding", figures))


def scenes(path: Path) -> Table:
    if not path.exists():
        sensorium("data", "scenes", "-o", str(path), "-n", "20000", "--seed", "0")
    return Table.open(path)


def trained(recipe: str, run: Path, table: Path) -> None:
    """Train where there is no model yet, or go on."""
    if not (run / "model.safetensors").exists():
        resume = ["--resume"] if (run / "last").exists() else []
        sensorium("train", recipe, "-o", str(run), "--set", f"data.table={table}", *resume)


def sensorium(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sensorium", *words], check=True, stdout=subprocess.DEVNULL)


def kept(kind: str) -> tuple[list[dict[str, object]], str]:
    """Rows of the last results, and the note that described them with the day they are of."""
    last = json.loads((RESULTS / "grounding.json").read_text())
    rows = [row for row in last["rows"] if row["what"].startswith((f"{kind}:", f"{kind},"))]
    (note,) = (note for note in last["notes"] if note.startswith(f"{kind}: "))
    return rows, note if "not measured again" in note else f"{note}; of {last['date']}, not measured again"


def measure(model: Grounder, table: Table, limit: int) -> Measured:
    sources = np.array(table.column("source"))
    return {
        part: list(measure_rows(model, table, np.flatnonzero(sources == source)[:limit]))
        for part, source in PARTS.items()
    }


def row(what: str, phrases: Sequence[Grounded]) -> dict[str, object]:
    found = grounding_metrics(phrases)
    hits = np.array(
        [bool((overlaps(one.boxes[:1], one.truth) >= 0.5).any()) for one in phrases if len(one.truth)]
    )
    interval = bootstrap_interval(hits)
    made: dict[str, object] = {"what": what, "accuracy": round(float(found["accuracy"]), 3)}
    made["± accuracy"] = round((interval.high - interval.low) / 2, 3)
    return made | {name: round(found[name], 3) for name in SHOWN if name in found}


def by_type(kind: str, found: Sequence[tuple[Grounded, str]]) -> list[dict[str, object]]:
    """One row for each type of phrase: what has to be understood."""
    words = {
        "name": '"the frog"',
        "full": '"the red frog", one frog',
        "colour": '"the red frog", several frogs',
        "size": '"the small frog"',
        "count": '"the two frogs"',
        "relation": '"the frog left of the key"',
    }
    return [
        row(f"{kind}, seen, by {name}: {example}", own)
        for name, example in words.items()
        if (own := [one for one, type in found if type == name])
    ]


def by_chance(kind: str, measured: Measured) -> list[dict[str, object]]:
    """One row for each part: what the boxes are worth alone, in any order, as no words were heard."""
    rng = np.random.default_rng(0)
    return [
        row(
            f"{kind}, any thing that stands out: {part}",
            [replace(one, boxes=rng.permutation(one.boxes), point=None, score=0.0) for one, _ in found],
        )
        for part, found in measured.items()
    ]


def describe(run: Path, model: Grounder) -> str:
    lines = [line for line in read_log(run / "log.jsonl") if "loss" in line]
    num = sum(parameter.numel() for parameter in model.parameters())
    return f"{num / 1e6:.1f} M parameters, {lines[-1]['step']:,} steps"


if __name__ == "__main__":
    main()
