"""The command line: one file a command group, each imported when it is called.

In: the arguments of a terminal. Out: results on stdout (a table, or JSON under `--json`), the rest on
stderr, and an exit code: 0 done, 1 failed, 2 wrong usage, 3 partly failed, 4 not found, 130 interrupted.
Does not know how anything is computed; that is `sensorium.assistants` and below.
"""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `cli.app.main`."""
    try:
        from sensorium.cli.app import main as run
    except KeyboardInterrupt:  # before there is a program that could say more
        print("interrupted", file=sys.stderr)
        return 130
    return run(arguments)
