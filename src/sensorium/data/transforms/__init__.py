"""Transforms from decoded media to input arrays of encoders: one frozen, picklable class per modality.

Input: an `Image`, `Text`, `Audio` or `Video`. Output: one unpadded array; `core.types.pad` stacks several.
With a random generator (training) the augmentation options apply; without one the result is deterministic.
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
    """Transform of one medium into one input array."""

    def __call__(self, media: Media | str, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the unpadded array, augmented if `rng` is given.

        Raises:
            UsageError: If the medium does not contain this modality.
            MediaError: If nothing is left to encode (a text without tokens).
        """


__all__ = ["AudioInput", "ImageInput", "Input", "TextInput", "VideoInput"]
