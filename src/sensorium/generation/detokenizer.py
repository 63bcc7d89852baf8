"""Incremental detokenizer: ids to text as they are generated.

Input: ids one by one. Output: text that no later id changes. A character whose bytes are split over several
ids is held back until it is complete. A possible beginning of a stop string is held back until it turns out
to be none. The concatenated pieces are the text of all ids, up to the first stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

Decode: TypeAlias = Callable[[Sequence[int]], str]
"""Ids to text; invalid UTF-8 becomes U+FFFD."""

_INCOMPLETE = "\ufffd"


class Detokenizer:
    """The text of one sequence.

    Args:
        decode: Ids to text.
        stops: Stop strings; they are not part of the text.

    Attributes:
        stop: The stop string that ended the text.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = [stop for stop in stops if stop]
        self._ids: list[int] = []
        self._context_start, self._num_read = 0, 0
        self._held = ""
        self.stop: str | None = None

    def push(self, new_id: int) -> str:
        """Add an id; return the text that became final."""
        self._ids.append(new_id)
        text = self._unread()
        if not text or text.endswith(_INCOMPLETE):
            return ""
        self._context_start, self._num_read = self._num_read, len(self._ids)
        return self._release(text)

    def finish(self) -> str:
        """Return the text that was held back."""
        if self.stop is not None:
            return ""
        rest = self._release(self._unread()) + self._held
        self._held = ""
        return rest

    def _unread(self) -> str:
        """Text of the unread ids, decoded together with the ids before them, which some decoders need."""
        known = self._decode(self._ids[self._context_start : self._num_read])
        return self._decode(self._ids[self._context_start :])[len(known) :]

    def _release(self, text: str) -> str:
        """Return held and new text; hold back what may begin a stop string."""
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
    """Length of the longest suffix of `text` that is a prefix of `stop`.

    Example:
        >>> _overlap("say EN", "END")
        2
    """
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
