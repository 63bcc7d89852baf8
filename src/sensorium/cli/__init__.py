"""The command line: one file a command group, each imported when it is called.

In: the arguments of a terminal. Out: results on stdout (a table, or JSON under `--json`), the rest on
stderr, and an exit code: 0 done, 1 failed, 2 wrong usage, 3 partly failed, 4 not found, 130 interrupted.
Does not know how anything is computed; that is `sensorium.tasks` and below.
"""

from sensorium.cli.app import main as main

__all__ = ["main"]
