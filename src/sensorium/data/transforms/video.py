"""Videos to a few normalised frames, frame_indices evenly over their length.

In: a `Video`, or an `Image`, which is a video of one frame. Out: float32 (T, 3, size, size), 1 <= T <=
num_frames. In training the frames' phase is random, and one random view is taken of all frames of a video.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import UsageError
from sensorium.data.transforms.image import ImageInput
from sensorium.media.types import Image, Media, Video


@dataclass(frozen=True)
class VideoInput:
    """Choose frames and prepare each as an image.

    Attributes:
        num_frames: Most frames taken; a shorter video gives all it has.
        frame: How each frame is resized, augmented and normalised.
    """

    num_frames: int = 8
    frame: ImageInput = field(default_factory=ImageInput)

    def __call__(
        self, media: Media | str, rng: np.random.Generator | None = None
    ) -> Float32[np.ndarray, "T 3 H W"]:
        """Return the chosen frames; `rng` given = a random phase and view.

        Raises:
            UsageError: If `media` has no pictures.
        """
        frames = _frames_of(media)
        phase = 0.5 if rng is None else rng.random()
        numbers = frame_indices(len(frames), self.num_frames, phase)
        # One seed for all frames: every frame gets the same view.
        seed = None if rng is None else int(rng.integers(2**63))
        return np.stack(
            [
                self.frame(Image(frames[number]), None if seed is None else np.random.default_rng(seed))
                for number in numbers
            ]
        )


def frame_indices(total: int, count: int, phase: float) -> list[int]:
    """Choose up to `count` of `total` numbers, one from each equal part, at `phase` in [0, 1) of the part.

    Example:
        >>> frame_indices(100, 4, 0.5)
        [12, 37, 62, 87]
        >>> frame_indices(3, 8, 0.5)
        [0, 1, 2]
    """
    count = min(count, total)
    return [min(int((part + phase) * total / count), total - 1) for part in range(count)]


def _frames_of(media: Media | str) -> np.ndarray:
    if isinstance(media, Video):
        return media.frames
    if isinstance(media, Image):
        return media.pixels[None]
    raise UsageError(f"a video encoder got {type(media).__name__}; give a Video or an Image")
