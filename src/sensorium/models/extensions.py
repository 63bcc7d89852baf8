"""Extensions of a multimodal model: parts of it that plug-in packages bring.

A model's configuration names them with their options: `[extensions.NAME]`. `build` looks each name up in
`EXTENSIONS` (entry-point group `sensorium.extension`). An extension is an `nn.Module`: its tensors lie among
the model's, and its options in the model's configuration. What else it does, it says by the protocols that it
implements: `PromptTransform` here, others where they are used (`generation.multimodal`: logits processors and
text decoders; `training.generative.build`: what is learned from training data).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, cast, runtime_checkable

from pydantic import JsonValue
from torch import nn

from sensorium.core.errors import NotFoundError
from sensorium.core.registry import Registry
from sensorium.encoders import Encoder

Options: TypeAlias = dict[str, JsonValue]
"""Of an extension; `package` among them is the distribution that brings it."""


@runtime_checkable
class Extension(Protocol):
    """An extension of a model. It is built from its options and the model's encoders by modality."""

    @property
    def options(self) -> Options:
        """What builds it again; a checkpoint keeps it."""


@runtime_checkable
class PromptTransform(Protocol):
    """An extension that changes instructions before a model reads them."""

    def transform(self, to: str, instruction: str) -> str:
        """An instruction for a kind of output, as the model reads it."""


EXTENSIONS: Registry[Extension] = Registry("extension")
_IN_CHECKOUT = {"composed-world": "contrib/composed_world"}
"""Folder in a checkout of packages that are in no registry."""


def build(name: str, options: Mapping[str, JsonValue], sources: Mapping[str, Encoder]) -> nn.Module:
    """Build an extension; raises as `find` does."""
    return cast(nn.Module, find(name, options)(options, sources))


def find(name: str, options: Mapping[str, JsonValue]) -> Callable[..., Extension]:
    """What builds an extension.

    Raises:
        NotFoundError: If no installed package brings it; the message says what to install.
    """
    try:
        return EXTENSIONS.get(name)
    except NotFoundError as error:
        package = str(options.get("package") or "NAME")
        command = f"pip install {_IN_CHECKOUT.get(package, package)}"
        raise NotFoundError(
            f"the model needs the extension '{name}' of a plug-in package; run: {command}"
        ) from error
