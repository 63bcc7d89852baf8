"""Engines and requests for a `MultimodalLM`; its extensions may change logits and detokenization.

Input: a model, a batch of media with instructions, and the output modality. Output: one `Request` for each
row. The media are encoded once. The decoder attends to their tokens by cross-attention, or in prefix mode has
them before its prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch

from sensorium.core.runtime import Progress, quiet
from sensorium.core.types import MediaBatch, Tokens
from sensorium.generation.decoder import GuidedDecoder, Memory
from sensorium.generation.detokenizer import Decode
from sensorium.generation.engine import Engine, Precision, Stream, fastest_decoder
from sensorium.generation.request import Completion, LogitsProcessor, Piece, Request
from sensorium.generation.sampling import GREEDY, Sampling
from sensorium.models.multimodal_lm import MultimodalLM

CONTEXT = 1024
"""Maximum number of tokens of a sequence, with prompt and prefix."""


@runtime_checkable
class ProcessesLogits(Protocol):
    """An extension that changes the logits of next ids."""

    def logits_processors(
        self, model: MultimodalLM, to: str, media: MediaBatch, instructions: Sequence[str]
    ) -> Sequence[LogitsProcessor | None]:
        """Return a logits processor for each row; None where the logits stay unchanged.

        Args:
            model: The model with this extension.
            to: Output modality.
            media: Encoder outputs of the rows.
            instructions: Instruction of each row.
        """


@runtime_checkable
class TextDecoder(Protocol):
    """Makes the text of a completion from its ids."""

    def __call__(self, completion: Completion) -> Completion:
        """Return the completion with its text."""


@runtime_checkable
class DecodesText(Protocol):
    """An extension that makes the text of an answer once all its ids are generated.

    Attributes:
        num_alternatives: Number of likeliest ids that it needs for each position.
    """

    num_alternatives: int

    def text_decoder(self, decode: Decode) -> TextDecoder:
        """Build the text decoder; `decode` is that of the tokenizer."""


class DecodedStream:
    """A stream whose text comes as its last piece, from a `TextDecoder`."""

    def __init__(self, stream: Stream, text_decoder: TextDecoder) -> None:
        self._stream, self._text_decoder = stream, text_decoder
        self._pieces = self._each()
        self._completion: Completion | None = None

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def cancel(self) -> None:
        """Stop; the ids so far are decoded."""
        self._stream.cancel()

    def result(self) -> Completion:
        """Wait for the end; return the whole result."""
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
    capacity: int = CONTEXT,
    precision: Precision = "fp32",
    progress: Progress = quiet,
) -> Engine:
    """Build an engine for one output modality.

    Args:
        model: In evaluation mode.
        to: Output modality.
        num_rows: Maximum batch size.
        capacity: Maximum number of tokens of a sequence; fewer if the decoder has fewer positions.
        precision: Of the decoder's weights; see `fastest_decoder`.
        progress: Told while kernels are compiled.
    """
    own = model.decoder(to)
    capacity = min(capacity, own.model.config.num_positions or capacity)
    scale = own.config.guidance
    rows = num_rows if scale == 1 else 2 * num_rows
    decoder = fastest_decoder(own.model, rows, capacity, precision, progress=progress)
    if scale != 1:
        decoder = GuidedDecoder(decoder, _empty_memory(model, to), scale)
    return Engine(decoder, None if own.tokenizer is None else own.tokenizer.decode)


def text_decoder_of(model: MultimodalLM) -> TextDecoder | None:
    """Build the text decoder of a model's extension; None if the tokenizer alone makes the text."""
    found, tokenizer = _decodes_text(model), model.decoder("text").tokenizer
    return None if found is None or tokenizer is None else found.text_decoder(tokenizer.decode)


def _decodes_text(model: MultimodalLM) -> DecodesText | None:
    return next((one for one in model.extensions.values() if isinstance(one, DecodesText)), None)


@torch.inference_mode()
def _empty_memory(model: MultimodalLM, to: str) -> Memory | None:
    """The memory of a sequence without media and instruction."""
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
    """Encode a batch of media and build a request for each row.

    Args:
        model: In evaluation mode.
        to: Output modality.
        media: One row for each instruction.
        instructions: Instruction of each row.
        sampling: Sampling options.
        max_tokens: Maximum number of ids of an answer.
    """
    decoder = model.decoder(to)
    processors: Sequence[LogitsProcessor | None] = [None] * len(instructions)
    for one in model.extensions.values():
        if isinstance(one, ProcessesLogits):
            media = model.with_tokens(media)
            new = one.logits_processors(model, to, media, instructions)
            processors = [_chain(*both) for both in zip(processors, new, strict=True)]
    decodes = _decodes_text(model) if to == "text" else None
    memory = model.encode(media)
    found = []
    for row, text in enumerate(instructions):
        own = memory.mask[row]
        real = Tokens(memory.values[row : row + 1, own], own[own][None])
        context, prompt = model.context(to, real), decoder.prompt_ids(text)
        given: Sequence[int] | torch.Tensor = prompt
        if context.prefix is not None:
            ids = torch.tensor([prompt], device=model.device)
            given = torch.cat([context.prefix.values[0], decoder.model.embed(ids)[0]])
        found.append(
            Request(
                given,
                sampling=sampling,
                max_tokens=max_tokens,
                stop_ids=frozenset(decoder.end_ids),
                memory=context.memory,
                logits_processor=processors[row],
                num_alternatives=0 if decodes is None else decodes.num_alternatives,
            )
        )
    return found


def _chain(first: LogitsProcessor | None, second: LogitsProcessor | None) -> LogitsProcessor | None:
    """Apply one processor after another."""
    if first is None or second is None:
        return first or second
    return lambda scores, ids: second(first(scores, ids), ids)
