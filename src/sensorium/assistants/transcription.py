"""A recording written down, as the answer of an assistant: it comes window by window.

In: whoever hears windows and keeps what was said. Out: pieces as those of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from sensorium.assistants.assistant import Part
from sensorium.core.errors import UsageError
from sensorium.generation import Completion, Piece
from sensorium.generation.request import Choice, Reason
from sensorium.media.types import Audio, Text, Video
from sensorium.models.prompts import TEMPLATES


@runtime_checkable
class Notes(Protocol):
    """What was said so far.

    Attributes:
        text: The whole text; it begins with a space.
        choices: The ids of the text.
    """

    text: str
    choices: list[Choice]


class Dictated:
    """The pieces of a transcript, one for each window.

    Args:
        steps: Hears one window after another.
        notes: Where what is said is noted meanwhile.
        most: Most ids.
        decode: Ids to text.
    """

    def __init__(
        self, steps: Iterator[int], notes: Notes, most: int, decode: Callable[[Sequence[int]], str]
    ) -> None:
        self._steps, self._notes, self._most, self._decode = steps, notes, most, decode
        self._num_told, self._told = 0, ""
        self._reason: Reason = "stop"
        self._pieces = self._each()

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def cancel(self) -> None:
        """Hear no further window; what is written stays."""
        self._reason = "cancelled"

    def result(self) -> Completion:
        """Wait for the end and return all of it."""
        for _ in self._pieces:
            pass
        return Completion(tuple(self._notes.choices[: self._num_told]), self._told, self._reason, 0)

    def _each(self) -> Iterator[Piece]:
        for _ in self._steps:
            if self._reason != "stop":
                return
            new, text = self._notes.choices[self._num_told : self._most], self._notes.text.lstrip()
            if len(self._notes.choices) > self._most:
                text = self._decode([one.id for one in self._notes.choices[: self._most]]).lstrip()
                self._reason = "length"
            piece = Piece(tuple(new), text[len(self._told) :])
            self._num_told, self._told = self._num_told + len(new), text
            yield piece


def the_sound(parts: Sequence[Part], name: str) -> Path | Audio:
    """The one sound among parts: a file, a sound, or a film's sound; the instruction may stand beside it.

    Raises:
        UsageError: If there is none, or something else.
    """
    given = [part for part in parts if part != TEMPLATES["transcribe"]]
    if len(given) == 1:
        found = given[0].audio if isinstance(given[0], Video) else given[0]
        if isinstance(found, Path | Audio):
            return found
    shown = ", ".join("a text" if isinstance(one, str | Text) else repr(one) for one in given) or "nothing"
    raise UsageError(f"{name} writes down one sound, got {shown}; give a sound or a video with sound")
