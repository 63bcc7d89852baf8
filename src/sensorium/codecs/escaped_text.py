"""A `str` that escapes the characters of special tokens, for untrusted text in chat templates.

Input: a text, and a table that maps each character of a special token to a character that occurs nowhere.
Output: an `EscapedStr`. It stores the escaped text, so that a rendered template contains a special token only
where the template itself wrote one (taint tracking). Its methods work as on the original text: a template can
find `</think>` in it, strip it and split it. Methods that are not overridden return a plain `str`, which is
still escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EscapeTable:
    """Tables for `str.translate`: characters to their escapes, and back."""

    escape: Mapping[int, str]
    unescape: Mapping[int, str]


_EMPTY = EscapeTable({}, {})


class EscapedStr(str):
    """An escaped text that behaves like the original.

    Args:
        value: The escaped text.
        table: The table that escaped it.

    Example:
        >>> table = EscapeTable({ord("<"): "{"}, {ord("{"): "<"})
        >>> text = escape("a<b", table)
        >>> "<" in text, str.__str__(text), [str.__str__(one) for one in text.split("<")]
        (True, 'a{b', ['a', 'b'])
        >>> str.__str__("<" + text)
        '<a{b'
    """

    _table: EscapeTable

    def __new__(cls, value: str, table: EscapeTable = _EMPTY) -> EscapedStr:
        """Attach the table to the string."""
        made = super().__new__(cls, value)
        made._table = table
        return made

    def __str__(self) -> str:
        return self

    def __contains__(self, part: object) -> bool:
        return isinstance(part, str) and unescape(part) in unescape(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and unescape(self) == unescape(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(unescape(self))

    def __add__(self, other: str) -> EscapedStr:
        return self._like(_raw(self) + _raw(other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> EscapedStr:
        return self._like(_raw(other) + _raw(self)) if isinstance(other, str) else NotImplemented

    def __getitem__(self, place: Any) -> EscapedStr:
        return self._like(_raw(self)[place])

    def __iter__(self) -> Iterator[str]:
        return map(self._like, _raw(self))

    def split(self, sep: str | None = None, maxsplit: Any = -1) -> list[str]:
        """As `str.split`."""
        return self._parts(unescape(self).split(_arg(sep), maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: Any = -1) -> list[str]:
        """As `str.rsplit`."""
        return self._parts(unescape(self).rsplit(_arg(sep), maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        """As `str.splitlines`."""
        whole = self._parts(unescape(self).splitlines(keepends=True), "")
        bare = unescape(self).splitlines(keepends)
        return [one[: len(line)] for one, line in zip(whole, bare, strict=True)]

    def partition(self, sep: str) -> tuple[str, str, str]:
        """As `str.partition`."""
        first, middle, last = self._parts(unescape(self).partition(unescape(sep)), "")
        return first, middle, last

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        """As `str.rpartition`."""
        first, middle, last = self._parts(unescape(self).rpartition(unescape(sep)), "")
        return first, middle, last

    def strip(self, chars: str | None = None) -> EscapedStr:
        """As `str.strip`."""
        return self.rstrip(chars).lstrip(chars)

    def lstrip(self, chars: str | None = None) -> EscapedStr:
        """As `str.lstrip`."""
        return self[len(self) - len(unescape(self).lstrip(_arg(chars))) :]

    def rstrip(self, chars: str | None = None) -> EscapedStr:
        """As `str.rstrip`."""
        return self[: len(unescape(self).rstrip(_arg(chars)))]

    def removeprefix(self, prefix: str) -> EscapedStr:
        """As `str.removeprefix`."""
        return self[len(self) - len(unescape(self).removeprefix(unescape(prefix))) :]

    def removesuffix(self, suffix: str) -> EscapedStr:
        """As `str.removesuffix`."""
        return self[: len(unescape(self).removesuffix(unescape(suffix)))]

    def replace(self, old: str, new: str, count: Any = -1) -> EscapedStr:
        """As `str.replace`; `new` is not escaped."""
        if not old:
            return self._like(unescape(self).replace(old, unescape(new), count).translate(self._table.escape))
        return self._like(_raw(new).join(self.split(old, count)))

    def join(self, parts: Iterable[str]) -> EscapedStr:
        """As `str.join`."""
        return self._like(_raw(self).join(parts))

    def _like(self, value: str) -> EscapedStr:
        return EscapedStr(value, self._table)

    def _parts(self, parts: Iterable[str], sep: str | None) -> list[str]:
        """Slice the text at `parts`, which `sep` separates; None: whitespace."""
        found: list[str] = []
        text, start = unescape(self), 0
        for part in parts:
            start = text.index(part, start) if sep is None else start
            found.append(self[start : start + len(part)])
            start += len(part) + len(sep or "")
        return found


def escape(text: str, table: EscapeTable) -> EscapedStr:
    """Escape a text."""
    return EscapedStr(text.translate(table.escape), table)


def unescape(text: str) -> str:
    """Return the original text; other strings are returned as they are."""
    return _raw(text).translate(text._table.unescape) if isinstance(text, EscapedStr) else text


def concatenate(parts: Iterable[str]) -> str:
    """Concatenate parts; if one is escaped, the result is an `EscapedStr` with its table."""
    found = list(parts)
    table = next((one._table for one in found if isinstance(one, EscapedStr)), None)
    text = "".join(found)
    return text if table is None else EscapedStr(text, table)


def _raw(text: str) -> str:
    return str.__str__(text)


def _arg(value: Any) -> Any:
    """Unescape an argument of a `str` method."""
    if isinstance(value, tuple):
        return tuple(map(_arg, value))
    return unescape(value) if isinstance(value, str) else value


def _query(name: str) -> Callable[..., Any]:
    """Make a method that returns the result for the original text."""

    def method(self: EscapedStr, *args: Any) -> Any:
        return getattr(unescape(self), name)(*map(_arg, args))

    return method


def _transform(name: str) -> Callable[..., EscapedStr]:
    """Make a method that transforms the original text and escapes the result."""

    def method(self: EscapedStr, *args: Any) -> EscapedStr:
        changed: str = getattr(unescape(self), name)(*map(_arg, args))
        return escape(changed, self._table)

    return method


for _name in (
    *("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "__lt__", "__le__"),
    *("__gt__", "__ge__", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower"),
    *("isnumeric", "isprintable", "isspace", "istitle", "isupper"),
):
    setattr(EscapedStr, _name, _query(_name))
for _name in (
    *("lower", "upper", "title", "capitalize", "casefold", "swapcase", "expandtabs", "translate", "__repr__"),
):
    setattr(EscapedStr, _name, _transform(_name))
