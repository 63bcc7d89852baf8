"""CSV and TSV reader that recovers from bad quotes.

Input: a text file whose first line names the columns. Output: for each record its line number and its cells
by column, or the reason why it cannot be read.

- Quoted cells may contain line ends (RFC 4180).
- A quote that is never closed costs only its own line. In TSV such a line is read without quoting.
- A quoted cell whose lines all look like records counts as two stray quotes.
"""

from __future__ import annotations

import csv
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from sensorium.core.errors import UsageError
from sensorium.data.ingest.sources.item import one_line
from sensorium.data.ingest.sources.lines import is_unicode, read_lines

MAX_CELL_CHARS = 64 * 1024 * 1024
DELIMITERS = ",\t;|"

_MIN_DELIMITERS = 8
"""A quoted cell with this many delimiters at the right positions contains records."""


def read_records(path: Path) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield (last line number, cells) of each record, or (first line number, reason) of an unreadable one.

    Raises:
        UsageError: If two columns have the same name.
        OSError: If the file cannot be read.
        UnicodeDecodeError: If it ends within a character.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    lines = _Lines(read_lines(path, MAX_CELL_CHARS))
    is_tsv = path.suffix.lower() == ".tsv"
    mark = lines.skip_to_header()
    mark = "\t" if is_tsv else mark or delimiter(lines.peek())
    reader = csv.reader(lines, delimiter=mark, strict=True)
    names = _header(reader, lines, mark)
    check_names(names, path)
    while True:
        used = lines.start()
        first = lines.number + 1
        try:
            cells, reason = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            cells, reason = [], f"not CSV: {error}"
        reason = reason or _fault(cells, used, len(names), mark)
        unquoted = _split(used[0], mark) if reason and is_tsv and used else []
        if reason:
            lines.push_back(used[1:])
        if unquoted and len(unquoted) == len(names) and is_clean(used[0]):
            yield first, dict(zip(names, unquoted, strict=False))
        elif reason:
            yield first, reason
        elif cells:
            yield lines.number, dict(zip(names, cells, strict=False))


def delimiter(header: str) -> str:
    """Return the delimiter of a header line: the candidate that occurs most often."""
    return max(DELIMITERS, key=header.count)


def check_names(names: list[str], path: Path) -> None:
    """Check that column names are distinct: otherwise cells would be lost.

    Raises:
        UsageError: With the name and the column numbers.
    """
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        numbers = " and ".join(str(index + 1) for index, name in enumerate(names) if name == twice)
        reason = f"{path} has {names.count(twice)} columns '{twice}' ({numbers}); give each its own name"
        raise UsageError(one_line(reason))


def is_clean(text: str) -> bool:
    """Whether a line has no zero bytes and is valid UTF-8."""
    return "\0" not in text and is_unicode(text)


class _Lines:
    """Iterator of lines that keeps those of the current record, so that they can be pushed back."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._pushed: deque[str] = deque()
        self._used: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._pushed.popleft() if self._pushed else next(self._source)
        self.number += 1
        self._used.append(line)
        return line

    def start(self) -> list[str]:
        """Start a record; returns the list that will contain its lines."""
        self._used = []
        return self._used

    def push_back(self, lines: list[str]) -> None:
        """Make the last lines the next ones again."""
        self._pushed.extendleft(reversed(lines))
        self.number -= len(lines)

    def peek(self) -> str:
        """The next line, or ""."""
        line = next(self, "")
        if line:
            self.push_back([line])
        return line

    def skip_to_header(self) -> str:
        """Skip empty lines and Excel's `sep=;` line; return the delimiter of the latter, or ""."""
        while (line := self.peek()) and not line.strip():
            next(self)
        line = line.strip()
        if len(line) == 5 and line[:4].lower() == "sep=":
            next(self)
            return line[4]
        return ""


def _header(reader: Iterator[list[str]], lines: _Lines, mark: str) -> list[str]:
    """Names of the columns; the first without a name is "", further ones are named by their number."""
    used = lines.start()
    try:
        cells = next(reader, [])
    except csv.Error:
        cells = [cell.strip().strip('"') for cell in _split(used[0], mark)]
        lines.push_back(used[1:])
    names = [
        cell.encode(errors="replace").decode().replace("\0", "?").strip("\ufeff \t\r\n") for cell in cells
    ]
    unnamed = names.index("") if "" in names else len(names)
    return [name or ("" if index == unnamed else f"column {index + 1}") for index, name in enumerate(names)]


def _fault(cells: list[str], used: list[str], num_columns: int, mark: str) -> str:
    """Why a record cannot be used, or ""."""
    if not all(map(is_clean, used)):
        has_zero = any("\0" in line for line in used)
        return "contains a zero byte" if has_zero else "not UTF-8; save the table as UTF-8"
    if any(cells[num_columns:]):
        return f"{len(cells)} cells for {num_columns} columns; is a comma unquoted?"
    if len(used) > 1 and num_columns > 1:
        num_inner = len(used) - 1
        looks_like_rows = all(len(_split(line, mark)) == num_columns for line in used)
        if looks_like_rows and num_inner * (num_columns - 1) >= _MIN_DELIMITERS:
            return f"a quote opens here and the next {num_inner} lines look like rows; double it, or close it"
    return ""


def _split(line: str, mark: str) -> list[str]:
    return line.rstrip("\r\n").split(mark)
