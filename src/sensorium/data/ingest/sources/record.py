"""Reads captions, licence, group and metadata from a mapping with loosely named keys.

Input: a mapping from a JSON sidecar, a table row or a webdataset `.json`. Keys are matched by usual names;
case and surrounding spaces are ignored. Output: a `Record`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from sensorium.data.ingest.sources.item import Blob, Item, Scalar
from sensorium.data.ingest.sources.lines import check_unicode

TEXT_NAMES = (
    "caption captions text texts title description sentence sentences alt alt_text prompt label tags".split()
)
LICENCE_NAMES = ("licence", "license")
LANGUAGE_NAMES = ("language", "lang")
GROUP_NAMES = ("group",)
CLASS_NAMES = ("label",)
"""A number under these names is a class index, not a text."""

MAX_DEPTH = 16
"""Deepest nesting of lists of texts."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")


@dataclass(frozen=True)
class Record:
    """Texts and metadata of one row.

    Attributes:
        texts: Distinct (language, text) pairs.
        licence: As stated, or "".
        group: As stated, or None.
        meta: All other values that are text or finite numbers.
    """

    texts: tuple[tuple[str, str], ...] = ()
    licence: str = ""
    group: str | None = None
    meta: Mapping[str, Scalar] = field(default_factory=dict)


def read_record(values: Mapping[str, object], texts: Mapping[str, str] | None = None) -> Record:
    """Read a mapping into a `Record`.

    Args:
        values: The mapping. A text is a string, a list of strings, or a mapping from language to either.
        texts: Keys of texts, each with its language or ""; None: keys with usual names (`caption`, `text`,
            `title`, ..., also with a language as in `caption_fr`).

    Raises:
        ValueError: If a text is nested too deeply or is not Unicode.

    Example:
        >>> read_record({"caption": ["a frog", "a frog"], "caption_fr": "une grenouille", "year": 1999})
        Record(texts=(('', 'a frog'), ('fr', 'une grenouille')), licence='', group=None, meta={'year': 1999})
    """
    columns = text_columns(values) if texts is None else texts
    if any(_is_class(key, values.get(key)) for key in columns):
        columns = {key: tag for key, tag in columns.items() if not _is_class(key, values.get(key))}
    language = _first(values, LANGUAGE_NAMES)
    default = language if isinstance(language, str) else ""
    found = [pair for key, tag in columns.items() for pair in read_texts(values.get(key), tag or default)]
    group = _first(values, GROUP_NAMES)
    known = {*columns, *LICENCE_NAMES, *LANGUAGE_NAMES, *GROUP_NAMES}
    record = Record(
        texts=tuple(dict.fromkeys(found)),
        licence=str(_first(values, LICENCE_NAMES) or ""),
        group=None if group is None else str(group),
        meta={key: value for key, value in values.items() if key not in known and _is_scalar(value)},
    )
    _check_unicode(record)
    return record


def canonical(name: str) -> str:
    """A column name for comparison: lower case, without surrounding spaces or a byte order mark."""
    return name.strip("\ufeff \t\r\n").lower()


def text_columns(names: Iterable[str]) -> dict[str, str]:
    """Return the usual names of text columns among `names`, each with its language suffix or ""."""
    found: dict[str, str] = {}
    for name in names:
        base, _, tag = canonical(name).partition("_")
        if canonical(name) in TEXT_NAMES:
            found[name] = ""
        elif base in TEXT_NAMES and len(tag) in (2, 3) and _LANGUAGE.fullmatch(tag):
            found[name] = tag
    return found


def read_texts(value: object, language: str = "") -> list[tuple[str, str]]:
    """Return the (language, text) pairs in a cell, without empty ones; a number alone is a text.

    Raises:
        ValueError: If bytes are not UTF-8, or the texts are nested too deeply.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not (isinstance(value, float) and not math.isfinite(value)):
        return [(language, str(value))]
    return list(_texts(value, language, 0))


def _texts(value: object, language: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > MAX_DEPTH:
        raise ValueError(f"texts are nested more than {MAX_DEPTH} deep")
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        if value.strip():
            yield language, value.strip()
    elif isinstance(value, Mapping):
        if {"text", "language"} <= value.keys():
            yield from _texts(value["text"], str(value["language"] or ""), depth + 1)
            return
        for key, inner in value.items():
            tag = language if canonical(str(key)) in TEXT_NAMES else str(key)
            yield from _texts(inner, tag, depth + 1)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(inner, language, depth + 1)


def merge(records: Iterable[Record]) -> Record:
    """Merge several records of one row; of conflicting values the first wins."""
    parts = list(records)
    return Record(
        texts=tuple(dict.fromkeys(pair for record in parts for pair in record.texts)),
        licence=next((record.licence for record in parts if record.licence), ""),
        group=next((record.group for record in parts if record.group is not None), None),
        meta={key: value for record in reversed(parts) for key, value in record.meta.items()},
    )


def item_of(record: Record, blobs: tuple[Blob, ...], source: str, *, uri: str = "") -> Item:
    """The item of some media and their record; named by its first medium, without media by `uri`."""
    name = blobs[0].uri if blobs else uri
    return Item(name, blobs, record.texts, record.group, source, record.licence, record.meta)


def is_language(tag: str) -> bool:
    """Whether `tag` has the form of a language tag (`fr`, `pt-BR`); it need not exist."""
    return _LANGUAGE.fullmatch(tag) is not None


def _check_unicode(record: Record) -> None:
    values = [record.licence, record.group or "", *record.meta, *record.meta.values()]
    for text in (*values, *(part for pair in record.texts for part in pair)):
        if isinstance(text, str):
            check_unicode(text)


def _is_class(name: str, value: object) -> bool:
    return isinstance(value, int | float) and canonical(name) in CLASS_NAMES


def _first(values: Mapping[str, object], names: Iterable[str]) -> object:
    known = {canonical(key): value for key, value in values.items()}
    found = next((known[name] for name in names if known.get(name) not in (None, "")), None)
    return found.decode() if isinstance(found, bytes) else found


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
