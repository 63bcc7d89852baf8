"""Ids to text as they come: no half characters, no half stop strings.

In: ids one after another, and how ids are decoded. Out: text that is certain. A character whose bytes are
spread over several ids is held back until it is whole, and the beginning of a stop string until it is known
that it is none. Joined together, the pieces are the text of all ids, up to the first stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

Decode: TypeAlias = Callable[[Sequence[int]], str]
"""Ids to text; bytes that are no character become U+FFFD."""

_UNFINISHED = "\ufffd"


class TextStream:
    """The text of one sequence.

    Args:
        decode: Ids to text.
        stops: Strings that end the text; they are not part of it.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = [stop for stop in stops if stop]
        self._ids: list[int] = []
        self._context, self._read = 0, 0
        self._held = ""
        self.stop: str | None = None
        """The stop string that was met."""

    def push(self, new_id: int) -> str:
        """Take in an id; return what is certain now."""
        self._ids.append(new_id)
        text = self._unread()
        if not text or text.endswith(_UNFINISHED):
            return ""
        self._context, self._read = self._read, len(self._ids)
        return self._release(text)

    def finish(self) -> str:
        """Return what was held back; no id comes after."""
        if self.stop is not None:
            return ""
        rest = self._release(self._unread()) + self._held
        self._held = ""
        return rest

    def _unread(self) -> str:
        """Text of the ids that were not read; some before them give the decoder its context."""
        known = self._decode(self._ids[self._context : self._read])
        return self._decode(self._ids[self._context :])[len(known) :]

    def _release(self, text: str) -> str:
        """Let go of held and new text, but for what may become a stop string."""
        text = self._held + text
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if found:
            end, self.stop = min(found)
            self._held = ""
            return text[:end]
        size = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - size :]
        return text[: len(text) - size]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with.

    Example:
        >>> _overlap("say EN", "END")
        2
    """
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
