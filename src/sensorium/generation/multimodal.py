"""What a multimodal model is to write, as requests to the engine: media are encoded once, at first.

In: a model, media with their instructions, and the kind of output. Out: one request a row, with the memory
that its writer attends to, or with the memory before its prompt in prefix mode. Knows no files or tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch

from sensorium.core.runtime import Progress, quiet
from sensorium.core.types import MediaBatch, Tokens
from sensorium.generation.decoder import Memory
from sensorium.generation.engine import Engine, Stream
from sensorium.generation.fastest import Precision, fastest_decoder
from sensorium.generation.guided import GuidedDecoder
from sensorium.generation.request import Completion, Piece, Request, Rule
from sensorium.generation.sampling import GREEDY, Sampling
from sensorium.generation.text import Decode
from sensorium.models.multimodal_lm import MultimodalLM

ROOM = 1024
"""Ids that a sequence may have, prompt and prefix included."""


@runtime_checkable
class LogitsProcessor(Protocol):
    """An extension that changes the scores of next ids."""

    def rules(
        self, model: MultimodalLM, to: str, media: MediaBatch, instructions: Sequence[str]
    ) -> Sequence[Rule | None]:
        """The rule of each row of a batch; None where its answer is left as it is.

        Args:
            model: Whose extension this is.
            to: Kind of output.
            media: Tokens of the encoders.
            instructions: What is asked of each row.
        """


class TextDecoder(Protocol):
    """Finds the text of what was written."""

    def __call__(self, completion: Completion) -> Completion:
        """The same completion with its text."""


@runtime_checkable
class DecodesText(Protocol):
    """An extension that finds the text of an answer when all of it is written.

    Attributes:
        num_alternatives: Likeliest other ids that it needs at each place.
    """

    num_alternatives: int

    def text_decoder(self, decode: Decode) -> TextDecoder:
        """What finds texts, given the tokenizer's decoder."""


class DecodedStream:
    """A stream whose text is found at its end; it can be waited for and cancelled like any other."""

    def __init__(self, stream: Stream, text_decoder: TextDecoder) -> None:
        self._stream, self._text_decoder = stream, text_decoder
        self._pieces = self._each()
        self._completion: Completion | None = None

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def cancel(self) -> None:
        """Stop; the text of what was written so far is found."""
        self._stream.cancel()

    def result(self) -> Completion:
        """Wait for the end and return all of it."""
        if self._completion is None:
            self._completion = self._text_decoder(self._stream.result())
        return self._completion

    def _each(self) -> Iterator[Piece]:
        for piece in self._stream:
            yield Piece(piece.choices)
        yield Piece((), self.result().text)


def engine_of(
    model: MultimodalLM,
    to: str,
    *,
    num_rows: int = 8,
    capacity: int = ROOM,
    precision: Precision = "fp32",
    progress: Progress = quiet,
) -> Engine:
    """An engine over the writer of one kind of output.

    Args:
        model: In evaluation mode.
        to: Kind of output.
        num_rows: Most answers that are written at a time.
        capacity: Most ids of a sequence, where the writer has not learned fewer places.
        precision: Of the writer's weights; see `fastest_decoder`.
        progress: Told while machine code is compiled.
    """
    writer = model.decoder(to)
    decode = None if writer.tokenizer is None else writer.tokenizer.decode
    room = min(capacity, writer.model.config.num_positions or capacity)
    scale = writer.config.guidance
    rows = num_rows if scale == 1 else 2 * num_rows
    decoder = fastest_decoder(writer.model, rows, room, precision, progress=progress)
    if scale != 1:
        decoder = GuidedDecoder(decoder, _nothing(model, to), scale)
    return Engine(decoder, decode)


def text_decoder_of(model: MultimodalLM) -> TextDecoder | None:
    """What finds the text of a model's answers at their end; None where the tokenizer alone does."""
    found, tokenizer = _decodes_text(model), model.decoder("text").tokenizer
    return None if found is None or tokenizer is None else found.text_decoder(tokenizer.decode)


def _decodes_text(model: MultimodalLM) -> DecodesText | None:
    return next((one for one in model.extensions.values() if isinstance(one, DecodesText)), None)


@torch.inference_mode()
def _nothing(model: MultimodalLM, to: str) -> Memory | None:
    """What a writer attends to whose media and instruction are hidden."""
    return model.context(to, model.encode(MediaBatch(torch.zeros(1, dtype=torch.int64), {}))).memory


@torch.inference_mode()
def requests(
    model: MultimodalLM,
    to: str,
    media: MediaBatch,
    instructions: Sequence[str],
    *,
    sampling: Sampling = GREEDY,
    max_tokens: int = 64,
) -> list[Request]:
    """Encode a batch, and ask for an answer to each of its rows.

    Args:
        model: In evaluation mode.
        to: Kind of output.
        media: Its rows have these instructions, in their order.
        instructions: What is asked of each row.
        sampling: How ids are chosen.
        max_tokens: Most ids of an answer.
    """
    writer = model.decoder(to)
    rules: Sequence[Rule | None] = [None] * len(instructions)
    for one in model.extensions.values():
        if isinstance(one, LogitsProcessor):
            media = model.with_tokens(media)
            rules = [
                _both(*each) for each in zip(rules, one.rules(model, to, media, instructions), strict=True)
            ]
    decodes = _decodes_text(model) if to == "text" else None
    memory = model.encode(media)
    found = []
    for row, text in enumerate(instructions):
        own = memory.mask[row]
        real = Tokens(memory.values[row : row + 1, own], own[own][None])
        context, prompt = model.context(to, real), writer.prompt_ids(text)
        given: Sequence[int] | torch.Tensor = prompt
        if context.prefix is not None:
            ids = torch.tensor([prompt], device=model.device)
            given = torch.cat([context.prefix.values[0], writer.model.embed(ids)[0]])
        found.append(
            Request(
                given,
                sampling=sampling,
                max_tokens=max_tokens,
                stop_ids=frozenset(writer.end_ids),
                memory=context.memory,
                rule=rules[row],
                num_alternatives=0 if decodes is None else decodes.num_alternatives,
            )
        )
    return found


def _both(first: Rule | None, second: Rule | None) -> Rule | None:
    """One rule after another."""
    if first is None or second is None:
        return first or second
    return lambda scores, written: second(first(scores, written), written)
