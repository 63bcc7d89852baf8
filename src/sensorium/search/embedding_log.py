"""Which model embedded a table, and how: a small file in the table's folder.

In: a fingerprint, the model's folder and the languages that were embedded. Out: the same, for a search
that names no model. The vectors themselves are the table's; this file may be lost: then the model must be
named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.files import write_atomic
from sensorium.data.table.table import Table
from sensorium.search.pool import no_vectors

NAME = "models.json"


@dataclass(frozen=True)
class Entry:
    """One model that embedded the table.

    Attributes:
        path: Folder of the model, absolute.
        languages: Of the texts and spoken captions that were embedded; empty: all.
    """

    path: str
    languages: Sequence[str] = ()


def read_ledger(table: Table) -> dict[str, Entry]:
    """Entries by fingerprint, the latest last; those whose vectors are gone are left out."""
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
    """Refuse to mix languages: vectors of one model in one table are all of the same ones.

    Raises:
        UsageError: If the model embedded other languages before.
    """
    entry = read_ledger(table).get(fingerprint)
    if entry is not None and sorted(entry.languages) != sorted(languages):
        before, now = (", ".join(names) or "all languages" for names in (entry.languages, languages))
        raise UsageError(
            f"this model embedded {table.path} in {before}, now asked: {now}; ask for {before} again"
        )


def note_model(table: Table, fingerprint: str, path: Path, languages: Sequence[str]) -> None:
    """Write down which model embeds the table, as the latest."""
    entries = read_ledger(table)
    entries.pop(fingerprint, None)
    entries[fingerprint] = Entry(str(path.resolve()), tuple(languages))
    text = json.dumps({name: asdict(entry) for name, entry in entries.items()}, indent=1, ensure_ascii=False)
    write_atomic(table.path / NAME, text + "\n")


def latest_model(table: Table) -> Path:
    """Folder of the model that embedded the table last.

    Raises:
        NotFoundError: If none did, or its folder is gone.
    """
    entries = list(read_ledger(table).values())
    if not entries:
        raise no_vectors(table)
    path = Path(entries[-1].path)
    if not path.is_dir():
        raise NotFoundError(
            f"the model that embedded {table.path} was {path}, which is gone; give --model RUN"
        )
    return path


def _texts(values: object) -> tuple[str, ...]:
    return tuple(str(value) for value in values) if isinstance(values, list) else ()
