"""Text of people within a chat template: it behaves as the text it is, and never reads as a special token.

In: a text, and masks: for each character of a special token another one that occurs nowhere. Out: a `str` of
which those characters are masked, so that what a template writes and what people wrote can be told apart to
the end (taint tracking). Its methods work on the text without masks: a template finds `</think>` in it, and
strips and splits as if there were none. An operation that is not known here gives a plain `str`, which is
masked all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Masks:
    """Characters to masks and back, as `str.translate` takes them."""

    hide: Mapping[int, str]
    show: Mapping[int, str]


_NONE = Masks({}, {})


class TaintedStr(str):
    """A masked text.

    Args:
        value: The text, masked.
        masks: How it was masked.

    Example:
        >>> masks = Masks({ord("<"): "{"}, {ord("{"): "<"})
        >>> text = taint("a<b", masks)
        >>> "<" in text, str.__str__(text), [str.__str__(one) for one in text.split("<")]
        (True, 'a{b', ['a', 'b'])
        >>> str.__str__("<" + text)
        '<a{b'
    """

    _masks: Masks

    def __new__(cls, value: str, masks: Masks = _NONE) -> TaintedStr:
        """Keep the masks beside the text."""
        made = super().__new__(cls, value)
        made._masks = masks
        return made

    def __str__(self) -> str:
        return self

    def __contains__(self, part: object) -> bool:
        return isinstance(part, str) and plain(part) in plain(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and plain(self) == plain(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(plain(self))

    def __add__(self, other: str) -> TaintedStr:
        return self._like(_raw(self) + _raw(other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> TaintedStr:
        return self._like(_raw(other) + _raw(self)) if isinstance(other, str) else NotImplemented

    def __getitem__(self, place: Any) -> TaintedStr:
        return self._like(_raw(self)[place])

    def __iter__(self) -> Iterator[str]:
        return map(self._like, _raw(self))

    def split(self, sep: str | None = None, maxsplit: Any = -1) -> list[str]:
        """As `str.split`."""
        return self._parts(plain(self).split(_arg(sep), maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: Any = -1) -> list[str]:
        """As `str.rsplit`."""
        return self._parts(plain(self).rsplit(_arg(sep), maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        """As `str.splitlines`."""
        whole = self._parts(plain(self).splitlines(keepends=True), "")
        bare = plain(self).splitlines(keepends)
        return [one[: len(line)] for one, line in zip(whole, bare, strict=True)]

    def partition(self, sep: str) -> tuple[str, str, str]:
        """As `str.partition`."""
        first, middle, last = self._parts(plain(self).partition(plain(sep)), "")
        return first, middle, last

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        """As `str.rpartition`."""
        first, middle, last = self._parts(plain(self).rpartition(plain(sep)), "")
        return first, middle, last

    def strip(self, chars: str | None = None) -> TaintedStr:
        """As `str.strip`."""
        return self.rstrip(chars).lstrip(chars)

    def lstrip(self, chars: str | None = None) -> TaintedStr:
        """As `str.lstrip`."""
        return self[len(self) - len(plain(self).lstrip(_arg(chars))) :]

    def rstrip(self, chars: str | None = None) -> TaintedStr:
        """As `str.rstrip`."""
        return self[: len(plain(self).rstrip(_arg(chars)))]

    def removeprefix(self, prefix: str) -> TaintedStr:
        """As `str.removeprefix`."""
        return self[len(self) - len(plain(self).removeprefix(plain(prefix))) :]

    def removesuffix(self, suffix: str) -> TaintedStr:
        """As `str.removesuffix`."""
        return self[: len(plain(self).removesuffix(plain(suffix)))]

    def replace(self, old: str, new: str, count: Any = -1) -> TaintedStr:
        """As `str.replace`; `new` stays as it is."""
        if not old:
            return self._like(plain(self).replace(old, plain(new), count).translate(self._masks.hide))
        return self._like(_raw(new).join(self.split(old, count)))

    def join(self, parts: Iterable[str]) -> TaintedStr:
        """As `str.join`."""
        return self._like(_raw(self).join(parts))

    def _like(self, value: str) -> TaintedStr:
        return TaintedStr(value, self._masks)

    def _parts(self, parts: Iterable[str], sep: str | None) -> list[str]:
        """Parts of the text, `sep` apart or, without one, with whitespace between."""
        found: list[str] = []
        text, start = plain(self), 0
        for part in parts:
            start = text.index(part, start) if sep is None else start
            found.append(self[start : start + len(part)])
            start += len(part) + len(sep or "")
        return found


def taint(text: str, masks: Masks) -> TaintedStr:
    """Mask a text."""
    return TaintedStr(text.translate(masks.hide), masks)


def plain(text: str) -> str:
    """The text without masks; one that has none as it is."""
    return _raw(text).translate(text._masks.show) if isinstance(text, TaintedStr) else text


def joined(parts: Iterable[str]) -> str:
    """Join parts; the result is masked as the first one that is."""
    found = list(parts)
    masks = next((one._masks for one in found if isinstance(one, TaintedStr)), None)
    text = "".join(found)
    return text if masks is None else TaintedStr(text, masks)


def _raw(text: str) -> str:
    return str.__str__(text)


def _arg(value: Any) -> Any:
    """An argument of a method of `str`, without masks."""
    if isinstance(value, tuple):
        return tuple(map(_arg, value))
    return plain(value) if isinstance(value, str) else value


def _asked(name: str) -> Callable[..., Any]:
    """A method that answers by the text without masks."""

    def method(self: TaintedStr, *args: Any) -> Any:
        return getattr(plain(self), name)(*map(_arg, args))

    return method


def _changed(name: str) -> Callable[..., TaintedStr]:
    """A method that gives another text: all of it is masked."""

    def method(self: TaintedStr, *args: Any) -> TaintedStr:
        changed: str = getattr(plain(self), name)(*map(_arg, args))
        return taint(changed, self._masks)

    return method


for _name in (
    *("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "__lt__", "__le__"),
    *("__gt__", "__ge__", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower"),
    *("isnumeric", "isprintable", "isspace", "istitle", "isupper"),
):
    setattr(TaintedStr, _name, _asked(_name))
for _name in (
    *("lower", "upper", "title", "capitalize", "casefold", "swapcase", "expandtabs", "translate", "__repr__"),
):
    setattr(TaintedStr, _name, _changed(_name))
