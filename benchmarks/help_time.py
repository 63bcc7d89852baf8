"""Time until `sensorium --help` answers, beside a bare interpreter; writes results/help_time.json."""

from __future__ import annotations

import subprocess
import sys
import time

from machine import in_turns, machine, require_idle, spread, write

BUDGET_MS = 300
ROUNDS = 15
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "sensorium --help": ["-m", "sensorium", "--help"],
    "sensorium search --help": ["-m", "sensorium", "search", "--help"],
    "sensorium data prepare --help": ["-m", "sensorium", "data", "prepare", "--help"],
    "sensorium --version": ["-m", "sensorium", "--version"],
}


def main() -> None:
    require_idle()

    def take(name: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *COMMANDS[name]], stdout=subprocess.DEVNULL, check=True)
        return 1000 * (time.perf_counter() - start)

    for name in COMMANDS:
        take(name)  # files are in the page cache, bytecode is written
    times = in_turns(list(COMMANDS), ROUNDS, take)
    figures = {name: spread(values) for name, values in times.items()}
    here = machine(("typer", "rich"))
    path = write("help_time", {"machine": here, "budget_ms": BUDGET_MS, "rounds": ROUNDS, "ms": figures})
    print(path.read_text())


if __name__ == "__main__":
    main()
