"""Batches of media that lie opened in memory, varied at random.

Pictures are mirrored and moved, sounds are cut from anywhere and made louder or softer.

The order and every choice depend on (seed, epoch, item) alone. Does not know tables or losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int16, UInt8

from sensorium.codecs.contract import Signals
from sensorium.data.loading.order import Cursor, LoaderState, Order

SILENCE = np.float32(-10)
"""log10 of the energy of none."""
_STREAM = 21
"""Tells the choice of views apart from other random streams of the same seed."""


class PictureBatches:
    """Batches of pictures.

    Args:
        pictures: (3, S, S) each, all alike.
        places: Which of them, in an epoch.
        batch_size: Of them in a batch.
        seed: Of order and views.
        flip: Chance that one is mirrored.
        shift_px: By how much one is moved at most; its edges are stretched into the gap.
    """

    def __init__(
        self,
        pictures: Sequence[UInt8[np.ndarray, "3 S S"]],
        places: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        flip: float,
        shift_px: int,
    ) -> None:
        self._pictures = pictures
        self._order = Order(np.asarray(places, np.int64), batch_size, seed)
        self._cursor = Cursor(self._order)
        self._flip, self._shift_px = flip, shift_px

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order)

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[Signals]:
        """Yield the batches of an epoch from the one numbered `offset` on."""
        for number, places in enumerate(self._cursor.walk(epoch, offset), start=offset):
            rng = np.random.default_rng([self._order.seed, _STREAM, epoch, number])
            pixels = to_signal(np.stack([self._view(self._pictures[place], rng) for place in places]))
            yield Signals(torch.from_numpy(places), pixels, pixels)

    def state(self) -> LoaderState:
        """The place after the last batch that was given."""
        return self._cursor.state()

    def _view(self, picture: UInt8[np.ndarray, "3 S S"], rng: np.random.Generator) -> np.ndarray:
        is_flipped, most = rng.random() < self._flip, self._shift_px
        top, left = rng.integers(0, 2 * most + 1, 2)
        picture = picture[..., ::-1] if is_flipped else picture
        if most == 0:
            return picture
        side = picture.shape[-1]
        wide = np.pad(picture, ((0, 0), (most, most), (most, most)), mode="edge")
        return wide[:, top : top + side, left : left + side]


@dataclass(frozen=True)
class Sound:
    """A sound in memory, in half the room.

    Attributes:
        samples: At the codec's rate, -32767 to 32767; as many as the frames stand for.
        frames: What the codec encodes.
    """

    samples: Int16[np.ndarray, " S"]
    frames: Float16[np.ndarray, "T M"]

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return len(self.samples) // len(self.frames)


class SoundBatches:
    """Batches of stretches of sounds.

    Args:
        sounds: Of any length.
        places: Which of them, in an epoch.
        batch_size: Of them in a batch.
        seed: Of order, cuts and loudness.
        num_frames: Of a stretch; shorter sounds are followed by silence.
        gain_db: By how much one is made louder or softer at most.
    """

    def __init__(
        self,
        sounds: Sequence[Sound],
        places: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        num_frames: int,
        gain_db: float,
    ) -> None:
        self._sounds = sounds
        self._order = Order(np.asarray(places, np.int64), batch_size, seed)
        self._cursor = Cursor(self._order)
        self._num_frames, self._gain_db = num_frames, gain_db

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order)

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[Signals]:
        """Yield the batches of an epoch from the one numbered `offset` on."""
        for number, places in enumerate(self._cursor.walk(epoch, offset), start=offset):
            rng = np.random.default_rng([self._order.seed, _STREAM, epoch, number])
            cuts = [self._cut(self._sounds[place], rng) for place in places]
            frames, samples = (torch.from_numpy(np.stack(parts)) for parts in zip(*cuts, strict=True))
            yield Signals(torch.from_numpy(places), frames, samples)

    def state(self) -> LoaderState:
        """The place after the last batch that was given."""
        return self._cursor.state()

    def _cut(
        self, sound: Sound, rng: np.random.Generator
    ) -> tuple[Float32[np.ndarray, "T M"], Float32[np.ndarray, " S"]]:
        """A stretch; a gain adds twice its logarithm to log10 energies."""
        surplus = len(sound.frames) - self._num_frames
        start = int(rng.integers(surplus + 1)) if surplus > 0 else 0
        gain = np.float32(10 ** (rng.uniform(-self._gain_db, self._gain_db) / 20))
        frames = sound.frames[start : start + self._num_frames].astype(np.float32)
        samples = sound.samples[start * sound.hop :][: len(frames) * sound.hop].astype(np.float32)
        missing = self._num_frames - len(frames)
        frames = np.pad(frames + 2 * np.log10(gain), ((0, missing), (0, 0)), constant_values=SILENCE)
        return frames, np.pad(samples * gain / np.float32(32767), (0, missing * sound.hop))


def to_signal(pictures: UInt8[np.ndarray, "B 3 S S"]) -> Float32[torch.Tensor, "B 3 S S"]:
    """Bytes as pixels of -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).float() / 127.5 - 1


def to_picture(pixels: Float32[np.ndarray, "3 S S"]) -> UInt8[np.ndarray, "3 S S"]:
    """Pixels of -1 to 1 as bytes."""
    return np.asarray(np.clip(np.round((pixels + 1) * 127.5), 0, 255), dtype=np.uint8)
