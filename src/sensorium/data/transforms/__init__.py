"""Opened media to the arrays that encoders take: one small frozen, picklable recipe per modality.

In: an `Image`, `Text`, `Audio` or `Video`. Out: one unpadded array; `core.types.pad` stacks several.
A random generator given means training: the options for augmentation apply. None means evaluation: nothing is
random, equal media give equal arrays. Nothing here knows a model, a table or a batch.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from sensorium.data.transforms.audio import AudioInput
from sensorium.data.transforms.image import ImageInput
from sensorium.data.transforms.text import TextInput
from sensorium.data.transforms.video import VideoInput
from sensorium.media.types import Media


@runtime_checkable
class Input(Protocol):
    """How one medium becomes one array of an encoder's input."""

    def __call__(self, media: Media | str, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the unpadded array; `rng` given = augment.

        Raises:
            UsageError: If the medium is of another modality and holds none of this one.
            MediaError: If nothing is left to encode (a text without tokens).
        """


__all__ = ["AudioInput", "ImageInput", "Input", "TextInput", "VideoInput"]
