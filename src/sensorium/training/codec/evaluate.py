"""Reconstruction error of codecs on held-out media, and how many codes they use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from sensorium.codecs import AudioFsq, ImageFsq
from sensorium.codecs.audio_fsq import FLOOR
from sensorium.codecs.image_fsq import to_bytes
from sensorium.evals.reconstruction import code_usage, mel_distance, psnr, ssim
from sensorium.training.codec.batches import Sound, to_signal
from sensorium.training.codec.data import OpenedMedia
from sensorium.training.log import Figures
from sensorium.training.task import Evaluation

T = TypeVar("T")
_AT_ONCE = 64


def evaluate_images(
    model: ImageFsq, opened: OpenedMedia[UInt8[np.ndarray, "3 S S"]], limit: int
) -> Evaluation:
    """PSNR and SSIM of at most `limit` held-out images of each part; the score is the mean PSNR."""
    metrics: dict[str, Figures] = {}
    every: list[np.ndarray] = []
    for name, indices in opened.test.items():
        images = np.stack([opened.items[index] for index in evenly_spaced(indices, limit)])
        ids, decoded = reconstruct(model, images)
        pairs = list(zip(images.transpose(0, 2, 3, 1), decoded, strict=True))
        metrics[name] = {
            "PSNR": float(np.mean([psnr(a, b) for a, b in pairs])),
            "SSIM": float(np.mean([ssim(a, b) for a, b in pairs])),
            "pictures": len(pairs),
        }
        every.append(ids.ravel())
    metrics["all"] = code_usage(np.concatenate(every), model.vocab_size)
    score = float(np.mean([found["PSNR"] for found in metrics.values() if "PSNR" in found]))
    return Evaluation(score, "mean PSNR in dB", metrics)


def evaluate_audio(model: AudioFsq, opened: OpenedMedia[Sound], limit: int) -> Evaluation:
    """Mel distance of at most `limit` held-out sounds of each part; the score is its negative mean."""
    metrics: dict[str, Figures] = {}
    every: list[np.ndarray] = []
    for name, indices in opened.test.items():
        sounds = [opened.items[index] for index in evenly_spaced(indices, limit)]
        distances = []
        for sound in sounds:
            frames = sound.frames.astype(np.float32)
            ids = encode_frames(model, frames)
            given = model.frames(model.decode(ids).samples[:, 0])
            distances.append(mel_distance(frames, given, floor=FLOOR))
            every.append(ids)
        metrics[name] = {"mel distance": float(np.mean(distances)), "sounds": len(sounds)}
    metrics["all"] = code_usage(np.concatenate(every), model.vocab_size)
    means = [found["mel distance"] for found in metrics.values() if "mel distance" in found]
    return Evaluation(-float(np.mean(means)), "mel distance in dB, negative", metrics)


@torch.inference_mode()
def encode_frames(model: AudioFsq, frames: np.ndarray) -> np.ndarray:
    """Ids of one sound's frames."""
    found = model.encode_frames(torch.from_numpy(frames)[None].to(model.norm.weight.device))
    ids: np.ndarray = found[0].cpu().numpy()
    return ids


@torch.inference_mode()
def reconstruct(
    model: ImageFsq, images: UInt8[np.ndarray, "n 3 S S"]
) -> tuple[np.ndarray, UInt8[np.ndarray, "n S S 3"]]:
    """Ids of images of the codec's size, and the images decoded from them."""
    ids, decoded = [], []
    device = model.last.weight.device
    for start in range(0, len(images), _AT_ONCE):
        found = model.encode_pixels(to_signal(images[start : start + _AT_ONCE]).to(device))
        ids.append(found.cpu().numpy())
        decoded.append(to_bytes(model.decode_ids(found)))
    return np.concatenate(ids), np.concatenate(decoded)


def evenly_spaced(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` items, evenly spaced from first to last.

    Example:
        >>> evenly_spaced(range(10), 4)
        [0, 3, 6, 9]
    """
    if len(items) <= limit:
        return list(items)
    return [items[round(at)] for at in np.linspace(0, len(items) - 1, limit)]
