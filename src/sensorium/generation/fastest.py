"""The decoder to use when none is asked for by name.

In: a model and a precision. Out: machine code where it can be, else PyTorch's. Does not know requests.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

from sensorium.core.errors import UsageError
from sensorium.core.jit import usable
from sensorium.core.runtime import Progress, quiet
from sensorium.generation.decoder import Decoder, PlainDecoder
from sensorium.models.language_model import LanguageModel

Precision: TypeAlias = Literal["fp32", "bf16", "int8", "int4"]
"""Of the weights while writing; bf16 and less run in machine code on processors."""


def fastest_decoder(
    model: LanguageModel,
    num_rows: int,
    capacity: int,
    precision: Precision = "bf16",
    *,
    progress: Progress = quiet,
) -> Decoder:
    """Choose by where the model is, what it is made of, and what works here.

    Args:
        model: In evaluation mode.
        num_rows: Most sequences at a time.
        capacity: Most tokens of a sequence.
        precision: "fp32": PyTorch's, in the model's own type; "bf16": machine code, or PyTorch's where there
            is none; "int8", "int4": machine code alone.
        progress: Told while machine code is compiled, which happens once on a machine.

    Raises:
        UsageError: If 8 or 4 bits are asked for where they cannot be had.
    """
    if precision == "fp32":
        return PlainDecoder(model, num_rows, capacity)
    failure = "numba does not work here"
    if model.embedding.weight.device.type != "cpu":
        failure = f"the model is on {model.embedding.weight.device}"
    elif usable():
        from sensorium.generation.cpu.decoder import CompiledDecoder

        try:
            threads = min(torch.get_num_threads(), 8)
            return CompiledDecoder(
                model, num_rows, capacity, weights=precision, num_threads=threads, progress=progress
            )
        except UsageError as error:
            failure = str(error)
    if precision != "bf16":
        raise UsageError(f"{precision} needs machine code on a processor, but {failure}; use bf16")
    return PlainDecoder(model, num_rows, capacity)
