"""Translates a text of any length, sentence by sentence, as one `Generation`.

Line breaks are kept. Each sentence is a request of its own; one that is too long for the model is split
between words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sensorium.align.text_lines import passages
from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import PLAIN, Assistant, Generation, WriteConfig
from sensorium.assistants.capabilities import check_capability, warn_of_language
from sensorium.core.errors import UsageError
from sensorium.generation import Completion, Piece
from sensorium.generation.request import Reason
from sensorium.models.prompts import instruction

SOURCE = "en"
"""Pivot language: recipes train translation from it and into it."""


def translate(assistant: Assistant, text: str, language: str, config: WriteConfig = PLAIN) -> Generation:
    """Translate a text; nothing is generated before the answer is iterated over or read.

    Args:
        assistant: The model.
        text: Any number of lines.
        language: Code of the language to translate into.
        config: Options of generation for each sentence.

    Raises:
        UsageError: If the text is empty, or the model does not translate into this language.
    """
    check_capability(assistant.name, assistant.capabilities, "translate", language)
    warn_of_language(
        assistant.name, assistant.capabilities, "translate", text, given=_sources(assistant, language)
    )
    if not text.strip():
        raise UsageError("nothing to translate: the text is empty; give some words")

    def fits(part: str) -> bool:
        return assistant.fits(instruction("translate", part, language))

    lines = [list(passages(line, fits)) for line in text.strip().splitlines()]
    parts = [
        (" " if place else "\n" if number else "", part)
        for number, line in enumerate(lines)
        for place, part in enumerate(line or [""])  # an empty line stays one
    ]

    def translated(part: str) -> Generation | None:
        return ask(assistant, "translate", text=part, language=language, config=config) if part else None

    return Generation(_Concatenated((before, translated(part)) for before, part in parts))


def _sources(assistant: Assistant, language: str) -> Sequence[str]:
    """Languages from which a model translates into this one."""
    others = [code for code in assistant.capabilities["translate"] if code != SOURCE]
    return others if language == SOURCE else [SOURCE]


class _Concatenated:
    """Concatenates answers as the pieces of one; each is requested when the one before has ended."""

    def __init__(self, asked: Iterator[tuple[str, Generation | None]]) -> None:
        self._done: list[Piece] = []
        self._pieces = self._each(asked)
        self._is_cut = self._is_cancelled = False
        self._num_prompt = 0

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def cancel(self) -> None:
        """Stop; the text so far stays."""
        self._is_cancelled = True

    def result(self) -> Completion:
        """Wait for the end and return all of it."""
        for _ in self._pieces:
            pass
        choices = tuple(choice for piece in self._done for choice in piece.choices)
        reason: Reason = "cancelled" if self._is_cancelled else "length" if self._is_cut else "stop"
        return Completion(choices, "".join(piece.text for piece in self._done), reason, self._num_prompt)

    def _each(self, asked: Iterator[tuple[str, Generation | None]]) -> Iterator[Piece]:
        for before, answer in asked:
            yield self._note(Piece((), before))
            for piece in () if answer is None else answer.pieces():
                if self._is_cancelled:
                    return
                yield self._note(piece)
            if answer is not None:
                self._is_cut |= answer.reason == "length"
                self._num_prompt += answer.num_prompt

    def _note(self, piece: Piece) -> Piece:
        self._done.append(piece)
        return piece
