"""Records of CSV and TSV files as people and programs write them.

In: a text file whose first line names the columns. Out: for each record its line and its cells by column,
or the reason why it is none. Quoted cells may hold line ends, as RFC 4180 has it; a quote that is never
closed costs its own line, and reading goes on with the next one. In TSV, where quotes are most often part
of the text, a line with such a quote is taken as it stands. A quoted cell that holds several lines, each
of which is a record itself, is taken for two stray quotes.
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
MARKS = ",\t;|"

_ENOUGH_MARKS = 8
"""So many separators within a quoted cell, in their places, mean that it swallowed records."""


def read_records(path: Path) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield the last line of each record with its cells, or the first line of what is none with the reason.

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
        taken = lines.start()
        first = lines.number + 1
        try:
            cells, reason = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            cells, reason = [], f"not CSV: {error}"
        reason = reason or _fault(cells, taken, len(names), mark)
        literal = _split(taken[0], mark) if reason and is_tsv and taken else []
        if reason:
            lines.give_back(taken[1:])
        if literal and len(literal) == len(names) and is_sound(taken[0]):
            yield first, dict(zip(names, literal, strict=False))
        elif reason:
            yield first, reason
        elif cells:
            yield lines.number, dict(zip(names, cells, strict=False))


def delimiter(header: str) -> str:
    """Return the mark that separates the columns of a header line."""
    return max(MARKS, key=header.count)


def check_names(names: list[str], path: Path) -> None:
    """Refuse columns of one name: the cells of one of them would be lost.

    Raises:
        UsageError: With the name and the places.
    """
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        places = " and ".join(str(place + 1) for place, name in enumerate(names) if name == twice)
        reason = f"{path} has {names.count(twice)} columns '{twice}' ({places}); give each its own name"
        raise UsageError(one_line(reason))


def is_sound(text: str) -> bool:
    """Whether a line is text: no zero bytes, nothing that was not UTF-8."""
    return "\0" not in text and is_unicode(text)


class _Lines:
    """Lines, with a memory of those that the present record took, so that they can be read once more."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._source)
        self.number += 1
        self._taken.append(line)
        return line

    def start(self) -> list[str]:
        """Begin a record; the list fills with its lines."""
        self._taken = []
        return self._taken

    def give_back(self, lines: list[str]) -> None:
        """Read the last lines again."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)

    def peek(self) -> str:
        """The next line, or ""."""
        line = next(self, "")
        if line:
            self.give_back([line])
        return line

    def skip_to_header(self) -> str:
        """Pass over empty lines and Excel's `sep=;`; return the separator that it names, or ""."""
        while (line := self.peek()) and not line.strip():
            next(self)
        told = line.strip()
        if len(told) == 5 and told[:4].lower() == "sep=":
            next(self)
            return told[4]
        return ""


def _header(reader: Iterator[list[str]], lines: _Lines, mark: str) -> list[str]:
    """Names of the columns; further ones without a name are called by their place."""
    taken = lines.start()
    try:
        cells = next(reader, [])
    except csv.Error:
        cells = [cell.strip().strip('"') for cell in _split(taken[0], mark)]
        lines.give_back(taken[1:])
    names = [
        cell.encode(errors="replace").decode().replace("\0", "?").strip("\ufeff \t\r\n") for cell in cells
    ]
    nameless = names.index("") if "" in names else len(names)
    return [
        name or (name if place == nameless else f"column {place + 1}") for place, name in enumerate(names)
    ]


def _fault(cells: list[str], taken: list[str], num_columns: int, mark: str) -> str:
    """Why a record is none, or ""."""
    if not all(map(is_sound, taken)):
        has_zero = any("\0" in line for line in taken)
        return "holds a zero byte" if has_zero else "not UTF-8; save the table as UTF-8"
    if any(cells[num_columns:]):
        return f"{len(cells)} cells for {num_columns} columns; is a comma unquoted?"
    if len(taken) > 1 and num_columns > 1:
        num_inner = len(taken) - 1
        looks_like_rows = all(len(_split(line, mark)) == num_columns for line in taken)
        if looks_like_rows and num_inner * (num_columns - 1) >= _ENOUGH_MARKS:
            return f"a quote opens here and the next {num_inner} lines look like rows; double it, or close it"
    return ""


def _split(line: str, mark: str) -> list[str]:
    return line.rstrip("\r\n").split(mark)
