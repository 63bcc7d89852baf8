"""Extensions: parts of a multimodal language model that plug-in packages add.

Input: an extension's name and options, from `[extensions.NAME]` of the model's configuration. Output: an
`nn.Module` from the registry `EXTENSIONS` (entry-point group `sensorium.extension`). Its tensors belong to
the model's state dict, its options to the model's configuration. An extension acts through the protocols that
it implements: `PromptTransform` here, logits processors and text decoders in `generation.multimodal`,
learning from training data in `training.generative.build`.
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
"""Options of an extension; `package` is the distribution to install for it."""


@runtime_checkable
class Extension(Protocol):
    """Part of a model, built from its options and the model's encoders by modality."""

    @property
    def options(self) -> Options:
        """Options that build it again; stored in checkpoints."""


@runtime_checkable
class PromptTransform(Protocol):
    """Extension that changes instructions before the model reads them."""

    def transform(self, to: str, instruction: str) -> str:
        """Return the instruction for output modality `to` as the model reads it."""


EXTENSIONS: Registry[Extension] = Registry("extension")
_IN_CHECKOUT = {"composed-world": "contrib/composed_world"}
"""Folder in a checkout of packages that are in no registry."""


def build(name: str, options: Mapping[str, JsonValue], sources: Mapping[str, Encoder]) -> nn.Module:
    """Build an extension; raises as `find` does."""
    return cast(nn.Module, find(name, options)(options, sources))


def find(name: str, options: Mapping[str, JsonValue]) -> Callable[..., Extension]:
    """Return a builder; raises `NotFoundError` with the package to install if it is missing."""
    try:
        return EXTENSIONS.get(name)
    except NotFoundError as error:
        package = str(options.get("package") or "NAME")
        command = f"pip install {_IN_CHECKOUT.get(package, package)}"
        raise NotFoundError(
            f"the model needs the extension '{name}' of a plug-in package; run: {command}"
        ) from error
