"""What an encoder is, and the names under which encoders are found.

In: the padded inputs of one field. Out: a sequence of vectors for each sample. An encoder knows how its own
inputs are prepared (`input`); it knows neither how its tokens are pooled nor in which space they will lie.
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

    What every entry of the registry must hold, and is tested for: a batch of n equals n singles, the content
    of masked places changes nothing, evaluation is deterministic, every parameter is used.

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


def input_of(
    kind: Callable[..., Kind], own: Mapping[str, object], options: Mapping[str, object] | None
) -> Kind:
    """Build an encoder's input from the encoder's `own` settings and the recipe's further `options`.

    Lists, as TOML gives them, become the tuples that inputs hold.

    Raises:
        UsageError: If the input has no such option.
    """
    given = {
        key: tuple(value) if isinstance(value, list) else value for key, value in dict(options or {}).items()
    }
    try:
        return kind(**{**own, **given})
    except TypeError as error:
        raise UsageError(f"input options {', '.join(given)}: {error}") from error
