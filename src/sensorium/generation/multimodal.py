"""What a multimodal model is to write, as requests to the engine: media are encoded once, at first.

In: a model, media with their instructions, and the kind of output. Out: one request a row, with the memory
that its writer attends to, or with the memory before its prompt in prefix mode. Knows no files or tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sensorium.core.runtime import Progress, quiet
from sensorium.core.types import MediaBatch, Tokens
from sensorium.generation.decoder import Memory
from sensorium.generation.engine import Engine
from sensorium.generation.fastest import Precision, fastest_decoder
from sensorium.generation.guided import GuidedDecoder
from sensorium.generation.recalled import Recalled
from sensorium.generation.request import Request
from sensorium.generation.sampling import GREEDY, Sampling
from sensorium.generation.spelled import NUM_ALTERNATIVES, Speller, Spelling
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.prompts import TEMPLATES
from sensorium.models.recollection import Recollection

ROOM = 1024
"""Ids that a sequence may have, prompt and prefix included."""


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


def spelling_of(model: MultimodalLM) -> Spelling | None:
    """How words are found for the sounds that a model with a lexicon writes; None for any other model."""
    config, tokenizer = model.config.lexicon, model.decoder("text").tokenizer
    if model.lexicon is None or config is None or tokenizer is None:
        return None
    return Spelling(Speller(model.lexicon, config.weight), model.lexicon, tokenizer.decode)


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
    rules: list[Recalled | None] = [None] * len(instructions)
    if model.recollection is not None and to == "text":
        media = model.looked_at(media)
        rules = _recalling(model, model.recollection, media, instructions)
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
                num_alternatives=0 if model.lexicon is None or to != "text" else NUM_ALTERNATIVES,
            )
        )
    return found


def _recalling(
    model: MultimodalLM, recollection: Recollection, media: MediaBatch, instructions: Sequence[str]
) -> list[Recalled | None]:
    """How the caption of each row follows what comes to mind; None for other answers."""
    writer, share = model.decoder("text"), recollection.config.share
    recalled = recollection.of_rows(media, model.sources["image"])
    return [
        Recalled([(writer.answer_ids(one), weight) for one, weight in texts], share)
        if texts and text == TEMPLATES["caption"]
        else None
        for text, texts in zip(instructions, recalled, strict=True)
    ]
