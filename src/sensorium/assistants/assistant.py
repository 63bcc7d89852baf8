"""The `Assistant` interface of generative models: turns of text and media in; text, an image or speech out.

Implementations: `text_assistant` (language models), `multimodal_assistant`, `transcription` (speech
recognisers) and `router` (several models as one). A `Generation` is an answer, complete or streaming.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from sensorium import media
from sensorium.assistants.capabilities import Capabilities
from sensorium.codecs import Codec
from sensorium.codecs.chat import Role
from sensorium.codecs.contract import StreamingCodec
from sensorium.core.config import Config
from sensorium.core.runtime import Progress, quiet
from sensorium.generation import GREEDY, Completion, Guide, Piece, Precision, Sampling
from sensorium.media.path_or_text import refuse_file_name
from sensorium.media.types import Audio, Image, Media, Text, Video

Output: TypeAlias = Literal["text", "image", "audio"]
Part: TypeAlias = str | Path | Media
"""A text, a file, or what `sensorium.open` gave; a `str` is always a text."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: Of the speaker.
        parts: Texts and media, in order.
    """

    role: Role
    parts: tuple[Part, ...]


class WriteConfig(Config):
    """Options of generation.

    Attributes:
        max_tokens: Most new tokens.
        sampling: Sampling options and seed; the default is greedy.
        stops: Stop strings; they are not part of the answer.
    """

    max_tokens: int = Field(default=512, ge=1)
    sampling: Sampling = GREEDY
    stops: tuple[str, ...] = ()


PLAIN = WriteConfig()


def write_config(
    max_tokens: int,
    temperature: float,
    seed: int = 0,
    stops: Sequence[str] = (),
    repetition_penalty: float = 1.0,
) -> WriteConfig:
    """Build a `WriteConfig`; above temperature 0, top-p is 0.95."""
    sampling = Sampling(
        temperature=temperature,
        top_p=0.95 if temperature else 1.0,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    return WriteConfig(max_tokens=max_tokens, sampling=sampling, stops=tuple(stops))


@runtime_checkable
class Pieces(Protocol):
    """A stream of generated pieces, such as the engine's `Stream`."""

    def __iter__(self) -> Iterator[Piece]:
        """Yield the piece that each step adds."""

    def cancel(self) -> None:
        """Stop; the pieces so far stay."""

    def result(self) -> Completion:
        """Wait for the end and return all of it."""


class Generation:
    """An answer. Iterating streams its text; every attribute waits for the end.

    Args:
        stream: Source of the pieces.
        codec: Decodes codes to an image or sound; None where the answer is text.
    """

    def __init__(self, stream: Pieces, codec: Codec[Any] | None = None) -> None:
        self._stream = stream
        self._codec = codec
        self._completion: Completion | None = None
        self._media: Image | Audio | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield the text as it becomes final."""
        return (piece.text for piece in self.pieces() if piece.text)

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces: ids, and the text that became final."""
        return iter(self._stream)

    def sounds(self) -> Iterator[Audio]:
        """Stream speech; concatenated, the pieces are `audio`."""
        if not isinstance(self._codec, StreamingCodec):
            yield from filter(None, [self.audio])
            return
        yield from self._codec.decode_stream(choice.id for piece in self.pieces() for choice in piece.choices)

    def wait(self) -> Generation:
        """Generate to the end."""
        self._completion = self._done
        return self

    def cancel(self) -> None:
        """Stop generating; the text so far stays."""
        self._stream.cancel()

    @property
    def text(self) -> str:
        """The text; empty if the answer is an image or speech."""
        return "" if self._codec else self._done.text

    @property
    def image(self) -> Image | None:
        """The image, if one was asked for."""
        media = self._medium
        return media if isinstance(media, Image) else None

    @property
    def audio(self) -> Audio | None:
        """The speech, if it was asked for."""
        media = self._medium
        return media if isinstance(media, Audio) else None

    @property
    def ids(self) -> list[int]:
        """The generated ids."""
        return self._done.ids

    @property
    def logprobs(self) -> list[float]:
        """Log-probability of each id."""
        return self._done.logprobs

    @property
    def reason(self) -> str:
        """Why it ended: "stop", "length" or "cancelled"."""
        return self._done.reason

    @property
    def num_prompt(self) -> int:
        """Number of prompt tokens."""
        return self._done.num_prompt

    @property
    def _done(self) -> Completion:
        if self._completion is None:
            self._completion = self._stream.result()
        return self._completion

    @property
    def _medium(self) -> Image | Audio | None:
        if self._media is None and self._codec is not None:
            self._media = self._codec.decode(self._done.ids)
        return self._media


def answer_once(
    self: Assistant,
    parts: Sequence[Part],
    *,
    to: Output = "text",
    max_tokens: int = 512,
    temperature: float = 0.0,
    seed: int = 0,
    stream: bool = False,
) -> Generation:
    """Answer one turn: the shared implementation of `Assistant.generate`.

    Raises:
        UsageError: If a `str` names a file, which was probably meant as the file.
    """
    for part in parts:
        if isinstance(part, str):
            refuse_file_name(part)
    answer = self.reply([Turn("user", tuple(parts))], write_config(max_tokens, temperature, seed), to=to)
    return answer if stream else answer.wait()


def opened(part: Part, target_px: int | None = None) -> str | Image | Audio | Video:
    """Convert a part to model input: files are opened, texts become `str`.

    Args:
        part: A text, a file, or an opened medium.
        target_px: Sufficient short side in pixels.
    """
    found = media.open(part, target_px=target_px) if isinstance(part, Path) else part
    return found.text if isinstance(found, Text) else found


@runtime_checkable
class Assistant(Protocol):
    """A model that answers.

    Attributes:
        name: Its name in messages.
        outputs: Kinds of answers.
        capabilities: Tasks that it was trained for.
    """

    name: str
    outputs: tuple[Output, ...]
    capabilities: Capabilities

    def generate(
        self,
        parts: Sequence[Part],
        *,
        to: Output = "text",
        max_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
        stream: bool = False,
    ) -> Generation:
        """Answer one turn.

        Args:
            parts: Texts and media.
            to: Kind of the answer.
            max_tokens: Most new tokens.
            temperature: 0 is greedy; above, tokens are sampled.
            seed: Of the random stream.
            stream: Return at once, and generate while the answer is iterated over.

        Raises:
            UsageError: If the model does not support the media, or the parts do not fit.
        """

    def reply(
        self,
        turns: Sequence[Turn],
        config: WriteConfig = PLAIN,
        *,
        to: Output = "text",
        guide: Guide | None = None,
    ) -> Generation:
        """Answer the last turn of a conversation; the oldest turns are left out if they do not fit.

        Nothing is generated before the answer is iterated over or read.
        """

    def fits(self, text: str, to: Output = "text") -> bool:
        """Whether a text fits into half of the context; the other half is for the answer."""

    def prepare(self, to: Output = "text", progress: Progress = quiet) -> object:
        """Build the decoder now rather than at the first answer.

        The first time on a machine, kernels are compiled for its processor, which takes some seconds; only
        then `progress` is told.
        """

    def with_precision(self, precision: Precision) -> Assistant:
        """The same model with decoder weights of another precision: "fp32", "bf16", "int8" or "int4"."""

    def logits(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Score every id as the next one, at each place of a text."""
