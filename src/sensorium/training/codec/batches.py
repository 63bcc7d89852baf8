"""Batches of images and sounds from memory, with random augmentation.

Images are flipped and shifted; sounds are cropped and change in loudness. Order and augmentation depend on
seed and epoch alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int16, UInt8

from sensorium.codecs.contract import Signals
from sensorium.data.loading.epochs import Epochs
from sensorium.data.loading.order import Order

SILENCE = np.float32(-10)
"""log10 of the energy of silence."""
_STREAM = 21
"""Separates the augmentation from other random streams of the same seed."""


@dataclass(frozen=True)
class Sound:
    """A sound in memory, in 16 bits.

    Attributes:
        samples: At the codec's rate, -32767 to 32767; as many as the frames cover.
        frames: Input of the codec's encoder.
    """

    samples: Int16[np.ndarray, " S"]
    frames: Float16[np.ndarray, "T M"]

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return len(self.samples) // len(self.frames)


def image_batches(
    images: Sequence[UInt8[np.ndarray, "3 S S"]], order: Order, *, flip: float, shift_px: int
) -> Epochs[Signals]:
    """Batches of images.

    Args:
        images: All of one size.
        order: Indices of the images, batch size, seed.
        flip: Probability of a horizontal flip.
        shift_px: Largest shift; the edges are repeated into the gap.
    """

    def batches(epoch: int, first: int) -> Iterator[Signals]:
        for number, indices in enumerate(order.batches(epoch, first), start=first):
            rng = np.random.default_rng([order.seed, _STREAM, epoch, number])
            pixels = to_signal(np.stack([_view(images[index], rng, flip, shift_px) for index in indices]))
            yield Signals(torch.from_numpy(indices), pixels, pixels)

    return Epochs(len(order), order.seed, batches)


def _view(
    image: UInt8[np.ndarray, "3 S S"], rng: np.random.Generator, flip: float, shift_px: int
) -> UInt8[np.ndarray, "3 S S"]:
    is_flipped = rng.random() < flip
    top, left = rng.integers(0, 2 * shift_px + 1, 2)
    image = image[..., ::-1] if is_flipped else image
    if shift_px == 0:
        return image
    side = image.shape[-1]
    wide = np.pad(image, ((0, 0), (shift_px, shift_px), (shift_px, shift_px)), mode="edge")
    view: UInt8[np.ndarray, "3 S S"] = wide[:, top : top + side, left : left + side]
    return view


def audio_batches(
    sounds: Sequence[Sound], order: Order, *, num_frames: int, gain_db: float
) -> Epochs[Signals]:
    """Batches of random crops of sounds.

    Args:
        sounds: Of any length.
        order: Indices of the sounds, batch size, seed.
        num_frames: Length of a crop; shorter sounds are padded with silence.
        gain_db: Largest random gain or attenuation.
    """

    def batches(epoch: int, first: int) -> Iterator[Signals]:
        for number, indices in enumerate(order.batches(epoch, first), start=first):
            rng = np.random.default_rng([order.seed, _STREAM, epoch, number])
            crops = [_crop(sounds[index], rng, num_frames, gain_db) for index in indices]
            frames, samples = (torch.from_numpy(np.stack(parts)) for parts in zip(*crops, strict=True))
            yield Signals(torch.from_numpy(indices), frames, samples)

    return Epochs(len(order), order.seed, batches)


def _crop(
    sound: Sound, rng: np.random.Generator, num_frames: int, gain_db: float
) -> tuple[Float32[np.ndarray, "T M"], Float32[np.ndarray, " S"]]:
    """Frames and samples of a crop; a gain adds twice its logarithm to log10 energies."""
    surplus = len(sound.frames) - num_frames
    start = int(rng.integers(surplus + 1)) if surplus > 0 else 0
    gain = np.float32(10 ** (rng.uniform(-gain_db, gain_db) / 20))
    frames = sound.frames[start : start + num_frames].astype(np.float32)
    samples = sound.samples[start * sound.hop :][: len(frames) * sound.hop].astype(np.float32)
    missing = num_frames - len(frames)
    frames = np.pad(frames + 2 * np.log10(gain), ((0, missing), (0, 0)), constant_values=SILENCE)
    return frames, np.pad(samples * gain / np.float32(32767), (0, missing * sound.hop))


def to_signal(images: UInt8[np.ndarray, "B 3 S S"]) -> Float32[torch.Tensor, "B 3 S S"]:
    """Bytes to pixels of -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1


def to_uint8(pixels: Float32[np.ndarray, "3 S S"]) -> UInt8[np.ndarray, "3 S S"]:
    """Pixels of -1 to 1 to bytes."""
    return np.asarray(np.clip(np.round((pixels + 1) * 127.5), 0, 255), dtype=np.uint8)
