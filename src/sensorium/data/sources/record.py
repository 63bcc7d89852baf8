"""What a loose record says of a row: captions, licence, group, the rest.

In: a mapping from a JSON sidecar, a table row or a webdataset `.json`, under the names people use. Out: a
`Record`. It does not know where the media are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from sensorium.data.sources.item import Scalar

TEXT_NAMES = (
    "caption captions text texts title description sentence sentences alt alt_text prompt label tags".split()
)
LICENCE_NAMES = ("licence", "license")
LANGUAGE_NAMES = ("language", "lang")
GROUP_NAMES = ("group",)

_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")


@dataclass(frozen=True)
class Record:
    """What is said of one row.

    Attributes:
        texts: (language, text) pairs without repetition.
        licence: As stated, or "".
        group: As stated, or None.
        meta: Everything else that is text or a finite number.
    """

    texts: tuple[tuple[str, str], ...] = ()
    licence: str = ""
    group: str | None = None
    meta: Mapping[str, Scalar] = field(default_factory=dict)


def read_record(values: Mapping[str, object], texts: Mapping[str, str] | None = None) -> Record:
    """Sort the entries of a record by what they mean.

    Args:
        values: The record. A text is a string, a list of strings, or a mapping from language to either.
        texts: Keys that hold texts, each with its language or ""; None = those with usual names
            (`caption`, `text`, `title`, ... and with a language as in `caption_fr`).

    Example:
        >>> read_record({"caption": ["a frog", "a frog"], "caption_fr": "une grenouille", "year": 1999})
        Record(texts=(('', 'a frog'), ('fr', 'une grenouille')), licence='', group=None, meta={'year': 1999})
    """
    columns = text_columns(values) if texts is None else texts
    language = str(_first(values, LANGUAGE_NAMES) or "")
    found = [pair for key, tag in columns.items() for pair in read_texts(values.get(key), tag or language)]
    group = _first(values, GROUP_NAMES)
    known = {*columns, *LICENCE_NAMES, *LANGUAGE_NAMES, *GROUP_NAMES}
    return Record(
        texts=tuple(dict.fromkeys(found)),
        licence=str(_first(values, LICENCE_NAMES) or ""),
        group=None if group is None else str(group),
        meta={key: value for key, value in values.items() if key not in known and _is_scalar(value)},
    )


def text_columns(names: Iterable[str]) -> dict[str, str]:
    """Return the names that usually hold texts, each with the language that is written in it or ""."""
    found: dict[str, str] = {}
    for name in names:
        base, _, tag = name.lower().partition("_")
        if name.lower() in TEXT_NAMES:
            found[name] = ""
        elif base in TEXT_NAMES and len(tag) in (2, 3) and _LANGUAGE.fullmatch(tag):
            found[name] = tag
    return found


def read_texts(value: object, language: str = "") -> list[tuple[str, str]]:
    """Return the (language, text) pairs in a cell; empty and missing texts are left out."""
    if isinstance(value, str):
        return [(language, value.strip())] if value.strip() else []
    if isinstance(value, Mapping):
        if {"text", "language"} <= value.keys():
            return read_texts(value["text"], str(value["language"] or ""))
        return [pair for tag, inner in value.items() for pair in read_texts(inner, str(tag))]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [pair for inner in value for pair in read_texts(inner, language)]
    return []


def merge(records: Iterable[Record]) -> Record:
    """Put what several records say of one row together; the first that states something is believed."""
    gathered = list(records)
    return Record(
        texts=tuple(dict.fromkeys(pair for record in gathered for pair in record.texts)),
        licence=next((record.licence for record in gathered if record.licence), ""),
        group=next((record.group for record in gathered if record.group is not None), None),
        meta={key: value for record in reversed(gathered) for key, value in record.meta.items()},
    )


def is_language(tag: str) -> bool:
    """Say whether `tag` has the form of a language tag (`fr`, `pt-BR`), not whether there is such one."""
    return _LANGUAGE.fullmatch(tag) is not None


def _first(values: Mapping[str, object], names: Iterable[str]) -> object:
    lowered = {key.lower(): value for key, value in values.items()}
    return next((lowered[name] for name in names if lowered.get(name) not in (None, "")), None)


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
