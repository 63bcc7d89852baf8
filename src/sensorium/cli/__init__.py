"""Command line: one file for each command group, imported when it is called.

Input: command-line arguments. Output: results on stdout (a table, or JSON with `--json`), messages on stderr,
and an exit code: 0 done, 1 failed, 2 wrong usage, 3 partly failed, 4 not found, 130 interrupted.
"""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `cli.app.main`."""
    try:
        from sensorium.cli.app import main as run
    except KeyboardInterrupt:  # while the program is being imported
        print("interrupted", file=sys.stderr)
        return 130
    return run(arguments)
