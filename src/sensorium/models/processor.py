"""Media and instructions as a multimodal model takes them: one batch of inputs, media that recur only once.

In: opened media by modality, and an instruction for each row. Out: a `MediaBatch` whose rows are those of the
memory. Does not know tasks, tables or writers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sensorium.core.errors import UsageError
from sensorium.core.types import MediaBatch, Padded, Tokens, pad
from sensorium.data.transforms import TextInput
from sensorium.media.types import Media
from sensorium.models.extensions import PromptTransform
from sensorium.models.multimodal_lm import MultimodalLM

Prepared = Mapping[str, np.ndarray | Tokens]
"""By modality: an encoder's input, not padded, or the tokens (1, N, D) that a frozen encoder gave."""


def prepare(model: MultimodalLM, given: Mapping[str, Media]) -> Prepared:
    """Turn opened media into the inputs of the model's encoders.

    Raises:
        UsageError: If the model has no encoder for one of them.
    """
    unknown = sorted(set(given) - set(model.sources))
    if unknown:
        raise UsageError(f"this model does not take {unknown[0]}; it takes {', '.join(model.sources)}")
    return {name: model.source(name).input(medium) for name, medium in given.items()}


def target_px(model: MultimodalLM, modality: str) -> int | None:
    """Side of the picture that an encoder looks at: larger ones may be decoded at a reduced scale."""
    make = model.source(modality).input
    size = getattr(getattr(make, "frame", make), "size_px", None)
    return None if size is None else int(size)


def hears_s(model: MultimodalLM) -> float | None:
    """Seconds of sound that the encoder takes in at a time; the rest it would not hear."""
    longest = getattr(model.source("audio").input, "max_s", None) if "audio" in model.sources else None
    return None if longest is None else float(longest)


def reads_whole(model: MultimodalLM, to: str, text: str, most: int) -> bool:
    """Whether an instruction reaches a writer uncut: as a prompt of at most `most` ids, or by the memory."""
    writer = model.decoder(to)
    if writer.tokenizer is not None and writer.config.prompted:
        return len(writer.prompt_ids(text)) <= most
    make = model.source("text").input if "text" in model.sources else None
    return make.fits(text) if isinstance(make, TextInput) else True


def as_read(model: MultimodalLM, to: str, instruction: str) -> str:
    """An instruction as the model reads it: after the prompt transforms among its extensions."""
    for one in model.extensions.values():
        if isinstance(one, PromptTransform):
            instruction = one.transform(to, instruction)
    return instruction


def batch_of(
    model: MultimodalLM, rows: Sequence[int], own: Sequence[Prepared], instructions: Sequence[str]
) -> MediaBatch:
    """Put media and instructions into a batch.

    Args:
        model: Whose encoders take them.
        rows: Number of each row, for messages.
        own: Media of each row; rows that hold the same object share its inputs.
        instructions: Of each row; they enter as texts where the model has an encoder for them.
    """
    present: dict[str, torch.Tensor] = {}
    inputs: dict[str, Padded] = {}
    tokens: dict[str, Tokens] = {}
    shared: dict[str, torch.Tensor] = {}
    first = {id(one): one for one in own}
    for name in model.sources:
        numbers = {key: place for place, key in enumerate(k for k, one in first.items() if name in one)}
        if name == "text" or not numbers:
            continue
        places = [place for place, one in enumerate(own) if id(one) in numbers]
        present[name] = torch.tensor(places)
        shared[name] = torch.tensor([numbers[id(own[place])] for place in places])
        media = [first[key][name] for key in numbers]
        if isinstance(media[0], Tokens):
            tokens[name] = _padded([one for one in media if isinstance(one, Tokens)])
        else:
            inputs[name] = pad([one for one in media if isinstance(one, np.ndarray)])
    if "text" in model.sources:
        make = model.source("text").input
        present["text"] = torch.arange(len(rows))
        inputs["text"] = pad([make(one) for one in instructions])
    return MediaBatch(torch.tensor(rows), present, inputs, tokens=tokens, shared=shared)


def _padded(several: Sequence[Tokens]) -> Tokens:
    length = max(one.mask.shape[1] for one in several)
    values = several[0].values.new_zeros(len(several), length, several[0].values.shape[2])
    mask = torch.zeros(len(several), length, dtype=torch.bool)
    for row, one in enumerate(several):
        values[row, : one.mask.shape[1]], mask[row, : one.mask.shape[1]] = one.values[0], one.mask[0]
    return Tokens(values, mask)
