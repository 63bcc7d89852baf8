"""Video to normalised frames at equal distances.

Input: a `Video`, or an `Image` as a video of one frame. Output: float32 (T, 3, size, size), T <= num_frames.
In training the position within each segment is random, and all frames get the same random view.
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
    """Samples frames and transforms each as an image.

    Attributes:
        num_frames: Largest number of frames; of a shorter video all are used.
        frame: Transform of each frame.
    """

    num_frames: int = 8
    frame: ImageInput = field(default_factory=ImageInput)

    def __call__(
        self, media: Media | str, rng: np.random.Generator | None = None
    ) -> Float32[np.ndarray, "T 3 H W"]:
        """Return the sampled frames, augmented if `rng` is given.

        Raises:
            UsageError: If `media` has no frames.
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
    """Indices of up to `count` of `total` frames: one per equal segment, at `phase` in [0, 1) of the segment.

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
