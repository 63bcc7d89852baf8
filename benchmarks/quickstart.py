"""The quickstart from an installed package to a searched table: seconds by the clock, without downloads.

    python benchmarks/quickstart.py

Runs `sensorium quickstart` once so that everything is fetched, then in three new folders, and writes
`results/quickstart.json`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from machine import machine, require_idle, spread, write

RUNS = 3


def run() -> float:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sensorium", "quickstart"]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    require_idle()
    run()
    found = spread([run() for _ in range(RUNS)])
    row = {"what": "sensorium quickstart", "seconds": found["median"], "range": [found["min"], found["max"]]}
    figures = {
        "claim": f"Fetched data, trained, measured and searched, {RUNS} runs; what is fetched was there.",
        "machine": machine(("torch", "numpy", "sensorium")),
        "rows": [row],
    }
    print(write("quickstart", figures))


if __name__ == "__main__":
    main()
