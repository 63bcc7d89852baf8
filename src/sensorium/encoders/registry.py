"""What an encoder is, and the names under which encoders are found.

In: the padded inputs of one field. Out: a sequence of vectors for each sample. An encoder knows how its own
inputs are prepared (`input`); it knows neither how its tokens are pooled nor in which space they will lie.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from sensorium.core.registry import Registry
from sensorium.core.types import Padded, Tokens
from sensorium.data.inputs import Input


@runtime_checkable
class Encoder(Protocol):
    """An `nn.Module` that turns inputs of one modality into tokens.

    What every entry of the registry must hold, and is tested for: a batch of n equals n singles, the content of
    masked places changes nothing, evaluation is deterministic, every parameter is used.

    Attributes:
        modality: "image", "text", "audio" or "video".
        dim: Width D of the tokens.
        input: Turns one opened medium into one unpadded array of this encoder's input.
    """

    modality: str
    dim: int
    input: Input

    def __call__(self, inputs: Padded) -> Tokens:
        """Encode (B, ...) padded inputs as (B, N, D) tokens; at least one token of each sample is real."""


ENCODERS: Registry[Encoder] = Registry("encoder")
"""Every encoder by name, as recipes give it: `ENCODERS.build("image-vit", width=192, depth=6)`."""
