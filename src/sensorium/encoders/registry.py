"""The encoder protocol, and the registry of encoders.

Input: padded inputs of one field. Output: a sequence of vectors per sample. An encoder defines how its inputs
are prepared (`input`). It does not know how its tokens are pooled, or the space that they are projected to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, runtime_checkable

from sensorium.core.errors import UsageError
from sensorium.core.registry import Registry
from sensorium.core.types import Padded, Tokens
from sensorium.data.transforms import Input

Kind = TypeVar("Kind", bound=Input)


@runtime_checkable
class Encoder(Protocol):
    """An `nn.Module` that turns inputs of one modality into tokens.

    The contract tests check every entry of the registry: a batch of n equals n batches of one, masked values
    do not change the result, evaluation is deterministic, every parameter is used.

    Attributes:
        modality: "image", "text", "audio" or "video".
        dim: Width D of the tokens.
        input: Turns one opened medium into one unpadded input array.
    """

    modality: str
    dim: int
    input: Input

    def __call__(self, inputs: Padded) -> Tokens:
        """Encode (B, ...) padded inputs as (B, N, D) tokens; at least one token of each sample is real."""


ENCODERS: Registry[Encoder] = Registry("encoder")
"""Encoders by name, as in recipes: `ENCODERS.build("image-vit", width=192, depth=6)`."""


def input_of(
    kind: Callable[..., Kind], own: Mapping[str, object], options: Mapping[str, object] | None
) -> Kind:
    """Build an encoder's input from the encoder's `own` settings and the recipe's `options`.

    Lists, as in TOML, become tuples.

    Raises:
        UsageError: If the input has no such option.
    """
    lists = dict(options or {})
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in lists.items()}
    try:
        return kind(**{**own, **given})
    except TypeError as error:
        raise UsageError(f"input options {', '.join(given)}: {error}") from error
