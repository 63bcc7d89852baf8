"""Adapts a `Transcriber` to the `Assistant` interface: one sound in, its transcript out, window by window.

The prompt is fixed: the instruction to transcribe may stand beside the sound, other text is refused. Sampling
options, output formats and stop texts are refused as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from jaxtyping import Float, Int64
from torch import Tensor

from sensorium.assistants.assistant import PLAIN, Generation, Output, Part, Turn, WriteConfig, answer_once
from sensorium.assistants.capabilities import Capabilities
from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.generation import Completion, Guide, Piece, Precision
from sensorium.generation.request import Reason
from sensorium.media.types import Audio, Text, Video
from sensorium.models.prompts import TEMPLATES
from sensorium.speech.transcribe import DEFAULT, RunningTranscript, Transcriber, Transcript


class TranscriptionAssistant:
    """A speech recogniser as an `Assistant`.

    Args:
        transcriber: The recogniser.
        name: Its name in messages.

    Attributes:
        outputs: ("text",).
        capabilities: Only "transcribe".

    Example:
        >>> assistant = TranscriptionAssistant(load_transcriber())   # doctest: +SKIP
        >>> assistant.generate([Path("talk.mp3")]).text              # doctest: +SKIP
        'Good morning.'
    """

    outputs: tuple[Output, ...] = ("text",)
    capabilities: Capabilities = MappingProxyType({"transcribe": ()})
    generate = answer_once

    def __init__(self, transcriber: Transcriber, name: str = DEFAULT) -> None:
        self.transcriber, self.name = transcriber, name

    def transcribe(self, audio: Path, *, progress: Progress = quiet) -> Transcript:
        """Transcribe a file, with times; see `Transcriber.transcribe`."""
        return self.transcriber.transcribe(audio, progress=progress)

    def reply(
        self,
        turns: Sequence[Turn],
        config: WriteConfig = PLAIN,
        *,
        to: Output = "text",
        guide: Guide | None = None,
    ) -> Generation:
        """Transcribe the one sound of the last turn; see `Assistant.reply`.

        Raises:
            UsageError: If there is no sound or more than one, or an option does not apply.
        """
        sampling = config.sampling
        is_varied = sampling.temperature > 0 or sampling.repetition_penalty != 1
        if to != "text" or guide is not None or config.stops or is_varied:
            raise UsageError(
                f"{self.name} only transcribes to text; give no temperature, penalty, stop string or schema"
            )
        running = self.transcriber.start(_sound_of(turns[-1].parts, self.name), has_words=False)
        decode = self.transcriber.whisper.vocabulary.decode
        return Generation(TranscriptPieces(running, config.max_tokens, decode))

    def fits(self, text: str, to: Output = "text") -> bool:
        """Whether a text is read to its end: only the instruction to transcribe is."""
        return text == TEMPLATES["transcribe"]

    def prepare(self, to: Output = "text", progress: Progress = quiet) -> None:
        """Do nothing: a `Transcriber` is built ready."""

    def with_precision(self, precision: Precision) -> TranscriptionAssistant:
        """Return itself; the precision of a recogniser is chosen when it is loaded.

        Raises:
            UsageError: If 8 or 4 bits are asked for.
        """
        if precision in ("int8", "int4"):
            raise UsageError(f"{self.name} does not support {precision} weights; use bf16")
        return self

    def logits(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Score every id as the next one, without any sound."""
        return self.transcriber.whisper.model.decoder.score(ids)


class TranscriptPieces:
    """A running transcript as the pieces of a `Generation`, one for each window.

    Args:
        running: The transcript.
        max_tokens: Most ids.
        decode: Ids to text.
    """

    def __init__(
        self, running: RunningTranscript, max_tokens: int, decode: Callable[[Sequence[int]], str]
    ) -> None:
        self._running, self._max_tokens, self._decode = running, max_tokens, decode
        self._num_told, self._told = 0, ""
        self._reason: Reason = "stop"
        self._pieces = self._each()

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def cancel(self) -> None:
        """Decode no further window; the text so far stays."""
        self._reason = "cancelled"

    def result(self) -> Completion:
        """Wait for the end and return all of it."""
        for _ in self._pieces:
            pass
        return Completion(tuple(self._running.choices[: self._num_told]), self._told, self._reason, 0)

    def _each(self) -> Iterator[Piece]:
        running = self._running
        for _ in running:
            if self._reason != "stop":
                return
            new, text = running.choices[self._num_told : self._max_tokens], running.text.lstrip()
            if len(running.choices) > self._max_tokens:
                text = self._decode([one.id for one in running.choices[: self._max_tokens]]).lstrip()
                self._reason = "length"
            piece = Piece(tuple(new), text[len(self._told) :])
            self._num_told, self._told = self._num_told + len(new), text
            yield piece


def _sound_of(parts: Sequence[Part], name: str) -> Path | Audio:
    """The one sound among parts: a file, a sound, or the sound of a video.

    Raises:
        UsageError: If there is none, or something besides it and the instruction.
    """
    given = [part for part in parts if part != TEMPLATES["transcribe"]]
    if len(given) == 1:
        found = given[0].audio if isinstance(given[0], Video) else given[0]
        if isinstance(found, Path | Audio):
            return found
    shown = ", ".join("a text" if isinstance(one, str | Text) else repr(one) for one in given) or "nothing"
    raise UsageError(f"{name} transcribes one sound, got {shown}; give a sound or a video with sound")
