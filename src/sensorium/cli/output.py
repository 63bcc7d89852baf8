"""Output of commands: results to stdout as a table or JSON, messages and progress to stderr.

Rich is imported only when it draws, never for `--help`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.core.printable import json_safe, one_line
from sensorium.core.printable import visible as visible

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]

PARTLY_FAILED = 3
"""Exit code if some inputs failed and the others succeeded."""
SECONDS_BETWEEN_LINES = 15.0
"""Interval of progress lines if stderr is not a terminal."""


def emit_json(value: object) -> None:
    """Print `value` as one line of JSON on stdout.

    NumPy values are converted; numbers that are not finite become null. Control characters, and all but ASCII
    if stdout is not UTF-8, are escaped.
    """
    is_utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    try:
        text = json.dumps(value, ensure_ascii=not is_utf8, default=_plain, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=not is_utf8, default=_plain)
    print(json_safe(text), flush=True)


def emit_text(text: str, *, end: str = "\n") -> None:
    """Print a text on stdout, with control characters escaped."""
    print(visible(text), end=end, flush=True)


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table on stdout: drawn on a terminal (a line per row, cut to width), else tab-separated."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            print("\t".join(_one_line(cell) for cell in row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD)
    body = [list(row) for row in rows]
    for place, column in enumerate(columns):
        is_number = bool(body) and all(isinstance(row[place], int | float) for row in body)
        table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number)
    for row in body:
        table.add_row(*(Text(_one_line(cell), no_wrap=True, overflow="ellipsis") for cell in row))
    Console().print(table)


def emit_pairs(pairs: Mapping[str, object]) -> None:
    """Print names and values on stdout, one pair per line."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        print(f"{name.ljust(width)}  {_one_line(value)}")


def write_stream(pieces: Iterable[str]) -> None:
    """Print a text on stdout while it is generated; on a terminal control characters are escaped."""
    is_terminal = sys.stdout.isatty()
    for piece in pieces:
        print(visible(piece) if is_terminal else piece, end="", flush=True)
    print(flush=True)


def note(message: str) -> None:
    """Print a message on stderr."""
    print(visible(message), file=sys.stderr, flush=True)


class TerminalProgress:
    """Progress display on stderr (`core.runtime.Progress`): a bar on a terminal, else occasional lines.

    Use as a context manager. A call with fewer units done than before, or another total, starts a new bar.

    Example:
        >>> with TerminalProgress() as progress:
        ...     progress(0, None, "")
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._last: tuple[int, int | None, str] = (0, None, "")
        self._line_time = 0.0

    def __enter__(self) -> TerminalProgress:
        if sys.stderr.isatty():
            self._bar = _make_bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int | None, message: str) -> None:
        """Show that `done` of `total` units are finished."""
        last_done, last_total, _ = self._last
        is_new = self._last[2] == "" or done < last_done or total != last_total
        self._last = (done, total, message or " ")
        if not message and total is None:
            return
        if self._bar is None:
            self._print_line(done, total, message, is_new)
        else:
            self._draw(self._bar, done, total, message, is_new)

    def _draw(self, bar: Bar, done: int, total: int | None, message: str, is_new: bool) -> None:
        from rich.markup import escape

        if is_new or self._task is None:
            self._task = bar.add_task(escape(visible(message)), total=total, completed=done)
        else:
            bar.update(self._task, completed=done, total=total, description=escape(visible(message)))

    def _print_line(self, done: int, total: int | None, message: str, is_new: bool) -> None:
        now = time.monotonic()
        is_finished = total is not None and done >= total
        if not (is_new or is_finished or now - self._line_time >= SECONDS_BETWEEN_LINES):
            return
        self._line_time = now
        amount = f"{done:,}" if total is None else f"{done:,}/{total:,}"
        note(f"{message}: {amount}" if (done or not is_new) else message)


def _make_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )


def _plain(value: object) -> object:
    """Convert for JSON: NumPy scalars and arrays by `tolist`, other objects by `str`."""
    convert = getattr(value, "tolist", None)
    return str(value) if convert is None else convert()


def _finite(value: object) -> object:
    """Replace numbers that are not finite by None."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _one_line(cell: object) -> str:
    return one_line(f"{cell:.4f}" if isinstance(cell, float) else str(cell))
