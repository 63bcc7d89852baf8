"""`errors.jsonl` beside a table: one line for each input that gave no row, with the reason.

A line is `{"path", "stage", "reason", "table"}`. Lines are appended during a run, so a killed run keeps them.
`close` rewrites the file without inputs that succeeded since. Lines of other tables in the folder, and lines
that cannot be parsed, are kept. Paths that are not UTF-8 are percent-encoded (`sources.item.name_of`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from sensorium.core.files import storage_error, write_atomic
from sensorium.data.ingest.sources.item import Failure, name_of, one_line

NAME = "errors.jsonl"
_BEGIN = '{"path": "'


class ErrorLog:
    """The failed inputs of the table at path `table`; the file is in the table's parent folder."""

    def __init__(self, table: Path) -> None:
        self.path = table.parent / NAME
        self._table = table.name
        self._pending: list[Failure] = []
        self._others, self._known = _read(self.path, self._table)
        self._written = set(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def add(self, failure: Failure) -> None:
        """Add a failure; the next `flush` writes it."""
        failure = Failure(name_of(failure.uri), failure.stage, one_line(failure.reason))
        self._known[failure.uri] = failure
        if failure not in self._written:
            self._written.add(failure)
            self._pending.append(failure)

    def forget(self, uris: Iterable[str]) -> None:
        """Remove earlier failures of inputs that are read again."""
        for uri in uris:
            self._known.pop(name_of(uri), None)

    def flush(self) -> None:
        """Append the failures added since the last flush, and fsync."""
        if not self._pending:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                if not _ends_a_line(self.path):
                    file.write("\n")
                file.writelines(_line(failure, self._table) for failure in self._pending)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(error, self.path) or error from error
        self._pending.clear()

    def close(self) -> None:
        """Rewrite the file with one line for each input that still fails; remove it if there is none."""
        self._pending.clear()
        lines = [*self._others, *(_line(failure, self._table) for failure in self._known.values())]
        if lines:
            write_atomic(self.path, "".join(lines))
        else:
            self.path.unlink(missing_ok=True)


def read_failures(table: Path) -> list[Failure]:
    """The failures of a table in `errors.jsonl` beside it."""
    return list(_read(table.parent / NAME, table.name)[1].values())


def _read(path: Path, table: str) -> tuple[list[str], dict[str, Failure]]:
    """Lines to keep as they are, and this table's failures by input; a line that a kill cut is dropped."""
    others: list[str] = []
    known: dict[str, Failure] = {}
    if not path.exists():
        return others, known
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not line.strip() or (line.startswith(_BEGIN) and not line.endswith("}")):
            continue
        try:
            entry = json.loads(line)
            values = [entry[name] for name in ("path", "stage", "reason", "table")]
        except (ValueError, KeyError, TypeError, RecursionError):
            values = [None]
        if values[-1] == table and all(isinstance(value, str) for value in values):
            failure = Failure(*values[:3])
            known[failure.uri] = failure
        else:
            others.append(line + "\n")
    return others, known


def _line(failure: Failure, table: str) -> str:
    entry = {"path": failure.uri, "stage": failure.stage, "reason": failure.reason, "table": table}
    return json.dumps(entry, ensure_ascii=True) + "\n"


def _ends_a_line(path: Path) -> bool:
    """Whether the file is empty or ends with a line end: a kill may leave half a line."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
