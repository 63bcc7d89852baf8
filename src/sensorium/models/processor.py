"""Turns media and instructions into the input batch of a multimodal language model.

Input: opened media by modality, and an instruction per row. Output: a `MediaBatch` with one row per
instruction; media that several rows share are stored once. Does not know tasks, tables or decoding.
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

ModelInputs = Mapping[str, np.ndarray | Tokens]
"""By modality: the unpadded input of an encoder, or cached tokens (1, N, D) of a frozen encoder."""


def prepare(model: MultimodalLM, given: Mapping[str, Media]) -> ModelInputs:
    """Turn opened media into encoder inputs; raises `UsageError` if the model has no encoder for one."""
    unknown = sorted(set(given) - set(model.sources))
    if unknown:
        raise UsageError(f"this model does not take {unknown[0]}; it takes {', '.join(model.sources)}")
    return {name: model.source(name).input(medium) for name, medium in given.items()}


def target_px(model: MultimodalLM, modality: str) -> int | None:
    """Side of the encoder's input image in pixels; larger images may be decoded at a reduced scale."""
    make = model.source(modality).input
    size = getattr(getattr(make, "frame", make), "size_px", None)
    return None if size is None else int(size)


def max_audio_s(model: MultimodalLM) -> float | None:
    """Longest audio that the encoder takes, in seconds; it cuts longer audio. None: no limit."""
    longest = getattr(model.source("audio").input, "max_s", None) if "audio" in model.sources else None
    return None if longest is None else float(longest)


def fits_prompt(model: MultimodalLM, to: str, text: str, most: int) -> bool:
    """Whether an instruction reaches a decoder untruncated: within `most` prompt ids, or via the encoder."""
    decoder = model.decoder(to)
    if decoder.tokenizer is not None and decoder.config.prompted:
        return len(decoder.prompt_ids(text)) <= most
    make = model.source("text").input if "text" in model.sources else None
    return make.fits(text) if isinstance(make, TextInput) else True


def transform_prompt(model: MultimodalLM, to: str, instruction: str) -> str:
    """Apply the prompt transforms among the model's extensions to an instruction."""
    for one in model.extensions.values():
        if isinstance(one, PromptTransform):
            instruction = one.transform(to, instruction)
    return instruction


def batch_of(
    model: MultimodalLM, rows: Sequence[int], own: Sequence[ModelInputs], instructions: Sequence[str]
) -> MediaBatch:
    """Collate media and instructions.

    Args:
        model: The model whose encoders take them.
        rows: Number of each row, for messages.
        own: Media of each row; rows that hold the same object share its inputs.
        instructions: Instruction of each row; a text input if the model has a text encoder.
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
            tokens[name] = _pad_tokens([one for one in media if isinstance(one, Tokens)])
        else:
            inputs[name] = pad([one for one in media if isinstance(one, np.ndarray)])
    if "text" in model.sources:
        make = model.source("text").input
        present["text"] = torch.arange(len(rows))
        inputs["text"] = pad([make(one) for one in instructions])
    return MediaBatch(torch.tensor(rows), present, inputs, tokens=tokens, shared=shared)


def _pad_tokens(several: Sequence[Tokens]) -> Tokens:
    length = max(one.mask.shape[1] for one in several)
    values = several[0].values.new_zeros(len(several), length, several[0].values.shape[2])
    mask = torch.zeros(len(several), length, dtype=torch.bool)
    for row, one in enumerate(several):
        values[row, : one.mask.shape[1]], mask[row, : one.mask.shape[1]] = one.values[0], one.mask[0]
    return Tokens(values, mask)
