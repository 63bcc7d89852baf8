"""Records which models have embedded a table, and in which languages (JSON in the table's folder).

A search without a named model uses the latest entry. The vectors themselves are stored in the table; if this
file is lost, searches must name the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.files import write_atomic

if TYPE_CHECKING:
    from sensorium.data.table.table import Table

NAME = "models.json"


@dataclass(frozen=True)
class Entry:
    """One model that has embedded the table.

    Attributes:
        path: Absolute path of the model's folder.
        languages: Languages of the texts and spoken captions that were embedded; empty: all.
    """

    path: str
    languages: Sequence[str] = ()


def read_log(table: Table) -> dict[str, Entry]:
    """Entries by fingerprint, the latest last; entries without vectors in the table are left out."""
    path = table.path / NAME
    if not path.is_file():
        return {}
    try:
        entries: Mapping[str, Mapping[str, object]] = json.loads(path.read_text(encoding="utf-8"))
        known = {
            name: Entry(str(entry["path"]), _texts(entry["languages"])) for name, entry in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    embedded = table.fields_embedded()
    return {name: entry for name, entry in known.items() if name in embedded}


def check_languages(table: Table, fingerprint: str, languages: Sequence[str]) -> None:
    """Check that all vectors of one model in one table are of the same languages.

    Raises:
        UsageError: If the model has embedded other languages before.
    """
    entry = read_log(table).get(fingerprint)
    if entry is not None and sorted(entry.languages) != sorted(languages):
        before, now = (", ".join(names) or "all languages" for names in (entry.languages, languages))
        raise UsageError(
            f"this model embedded {table.path} in {before}, now asked: {now}; ask for {before} again"
        )


def log_model(table: Table, fingerprint: str, path: Path, languages: Sequence[str]) -> None:
    """Record a model as the latest that embeds the table."""
    entries = read_log(table)
    entries.pop(fingerprint, None)
    entries[fingerprint] = Entry(str(path.resolve()), tuple(languages))
    text = json.dumps({name: asdict(entry) for name, entry in entries.items()}, indent=1, ensure_ascii=False)
    write_atomic(table.path / NAME, text + "\n")


def latest_model(table: Table) -> Path:
    """Folder of the model that embedded the table last.

    Raises:
        NotFoundError: If no model has, or its folder is missing.
    """
    entries = list(read_log(table).values())
    if not entries:
        raise no_vectors(table)
    path = Path(entries[-1].path)
    if not path.is_dir():
        raise NotFoundError(
            f"the model that embedded {table.path} was {path}, which is gone; give --model RUN"
        )
    return path


def latest_fingerprint(table: Table) -> str:
    """Fingerprint of the model that embedded the table last.

    Raises:
        NotFoundError: If no model has.
    """
    known = list(read_log(table)) or list(table.fields_embedded())
    if not known:
        raise no_vectors(table)
    return known[-1]


def no_vectors(table: Table, what: str = "no vectors") -> NotFoundError:
    """The error for a table without vectors; it says to fill the table first if it is empty."""
    if not len(table):
        return NotFoundError(
            f"{table.path} has no rows; fill it: sensorium data prepare SRC -o {table.path}, "
            "then: sensorium embed"
        )
    return NotFoundError(f"{table.path} has {what}; run: sensorium embed {table.path} --model RUN")


def _texts(values: object) -> tuple[str, ...]:
    return tuple(str(value) for value in values) if isinstance(values, list) else ()
