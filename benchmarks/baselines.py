"""What is reached without looking: the figures that a model has to beat.

    sensorium bench baselines
    sensorium bench baselines --scenes scenes.lance

Questions about composed scenes, answered from their words. Composes the scenes where that was not done yet
(`runs/`). What needs no model stands beside captions and translations in `captions.py` and `translation.py`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from composed_world.question_bias import question_bias
from machine import machine, write
from sensorium.data.table.table import Table
from sensorium.evals.bootstrap import Interval

ROOT = Path(__file__).parents[1]
Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=Path, default=ROOT / "runs" / "scenes.lance")
    arguments = parser.parse_args()
    if not arguments.scenes.exists():
        sensorium("data", "scenes", "-o", str(arguments.scenes), "-n", "5000", "--held-out", "500")
    figures = {
        "claim": "What is reached without looking: the figures that a model has to beat.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sensorium")),
        "rows": list(questions(Table.open(arguments.scenes))),
        "notes": [
            "brackets: 95 % bootstrap interval over questions",
            "share right; bag of words is a linear classifier over words and pairs of words",
            "command: sensorium bench baselines",
        ],
    }
    print(write("baselines", figures))


def questions(table: Table) -> Iterator[Row]:
    for one in question_bias(table):
        for reader, value in (("commonest answer", one.commonest), ("bag of words", one.bag_of_words)):
            yield row(f"questions, {one.source}, {one.type}: {reader}", value, one.num_questions)


def row(what: str, value: Interval, num: int) -> Row:
    bounds = [round(value.low, 3), round(value.high, 3)]
    return {"what": what, "score": round(value.mean, 3), "95 %": bounds, "n": num}


def sensorium(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sensorium", *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
