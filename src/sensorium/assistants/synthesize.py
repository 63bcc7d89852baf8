"""Synthesizes speech for a text of any length, and streams it.

Each sentence is a request of its own; one that is too long for the model is split between words. Sound is
yielded in pieces, the first before the first sentence is complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from sensorium.align.text_lines import passages
from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import Assistant, Generation, WriteConfig, write_config
from sensorium.assistants.capabilities import check_capability, warn_of_language
from sensorium.core.errors import UsageError
from sensorium.media.types import Audio

_PAUSE_S = 0.15
USUAL = write_config(500, 0.7)
"""Default options: at most ten seconds a sentence, sampled."""


class Speech:
    """A stream of synthesized speech; iterate once for pieces of sound.

    Args:
        assistant: The model.
        text: What to say.
        config: Options of generation for each sentence.

    Attributes:
        num_ids: Codes generated so far.
        is_cut: Whether a sentence reached `max_tokens`.
        first_s: Latency of the first piece in seconds.

    Raises:
        UsageError: If the text is empty, or the model does not synthesize speech.
    """

    def __init__(self, assistant: Assistant, text: str, config: WriteConfig) -> None:
        check_capability(assistant.name, assistant.capabilities, "speak")
        warn_of_language(assistant.name, assistant.capabilities, "speak", text)
        self._parts = list(passages(text, lambda part: assistant.fits(part, "audio")))
        if not self._parts:
            raise UsageError("nothing to say: the text is empty; give some words")
        self._assistant, self._config = assistant, config
        self.num_ids, self.is_cut, self.first_s = 0, False, 0.0

    def __iter__(self) -> Iterator[Audio]:
        start = time.perf_counter()
        for number, part in enumerate(self._parts):
            answer = ask(self._assistant, "speak", text=part, config=self._config)
            rate_hz = 0
            for piece in answer.sounds():
                self.first_s = self.first_s or time.perf_counter() - start
                rate_hz = piece.sample_rate_hz
                yield piece
            self._note(answer)
            if rate_hz and number < len(self._parts) - 1:
                yield Audio(np.zeros((round(_PAUSE_S * rate_hz), 1), np.float32), rate_hz)

    def audio(self) -> Audio:
        """Synthesize to the end; return one sound."""
        return joined(list(self))

    def _note(self, answer: Generation) -> None:
        self.num_ids += len(answer.ids)
        self.is_cut |= answer.reason == "length"


def joined(pieces: list[Audio]) -> Audio:
    """Concatenate sounds of one sample rate."""
    return Audio(np.concatenate([one.samples for one in pieces]), pieces[0].sample_rate_hz)
