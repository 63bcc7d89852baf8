"""Gettext catalogues: program messages in English with translations, and language tags of locales.

Input: a `.mo` file (GNU gettext manual, section 10.3). Output: pairs of English message and translation:
plain text of one line, without keyboard mnemonics.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

_MAGIC = 0x950412DE
_MAX_CHARS = 120
_SCRIPTS = {"latin": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva"}
_MARKUP = re.compile(r"[%{}<>\\|\n\t=@$#~*^\[\]]|://|translator-credits")
_MNEMONIC = re.compile(r"\s*\(_\w\)|_(?=\w)")
_DOTS = re.compile(r"\s*(\.\.\.|…|:)$")


def read_catalogue(path: Path) -> dict[str, str]:
    """Messages and translations as stored, without contexts; of plurals the singular and the first form.

    Raises:
        ValueError: If the file is not a catalogue.
    """
    data = path.read_bytes()
    order = "<" if data[:4] == struct.pack("<I", _MAGIC) else ">"
    if len(data) < 20 or struct.unpack_from(f"{order}I", data)[0] != _MAGIC:
        raise ValueError(f"{path} is not a gettext catalogue")
    count, messages, translations = struct.unpack_from(f"{order}3I", data, 8)
    found: dict[str, str] = {}
    for index in range(count):
        message, translation = (
            _text(data, *struct.unpack_from(f"{order}2I", data, table + 8 * index))
            for table in (messages, translations)
        )
        if message and translation:
            found.setdefault(message.rpartition("\x04")[2], translation)
    return found


def plain_pairs(catalogue: dict[str, str]) -> dict[str, str]:
    """Cleaned pairs that are plain text of one line in both languages; untranslated ones are dropped.

    Example:
        >>> plain_pairs({"_Open File…": "Ö_ffne Datei …", "%d frogs": "%d Frösche", "GIMP": "GIMP"})
        {'Open File': 'Öffne Datei'}
    """
    pairs = ((_clean(message), _clean(translation)) for message, translation in catalogue.items())
    return {one: other for one, other in pairs if _is_plain(one) and _is_plain(other) and one != other}


def _text(data: bytes, length: int, start: int) -> str:
    """A string of the file; of several forms, separated by NUL, the first."""
    return data[start : start + length].partition(b"\0")[0].decode("utf-8", "replace")


def _clean(text: str) -> str:
    return _DOTS.sub("", " ".join(_MNEMONIC.sub("", text).split(" ")).strip())


def _is_plain(text: str) -> bool:
    letters = sum(char.isalpha() for char in text)
    return (
        1 < letters
        and letters >= 0.6 * len(text.replace(" ", ""))
        and len(text) <= _MAX_CHARS
        and not _MARKUP.search(text)
    )


def bcp47(locale: str) -> str:
    """The BCP 47 language tag of a POSIX locale (`ll`, `ll_CC`, `ll@modifier`, in any case).

    Example:
        >>> bcp47("pt_BR"), bcp47("zh_tw"), bcp47("sr@latin"), bcp47("ca@valencia")
        ('pt-BR', 'zh-TW', 'sr-Latn', 'ca-valencia')
    """
    name, _, modifier = locale.partition("@")
    language, _, region = name.replace("-", "_").partition("_")
    parts = [language.lower(), _SCRIPTS.get(modifier.lower(), modifier.lower()), region.upper()]
    return "-".join(part for part in parts if part)
