"""A stand-in for a model: words are directions, and a file means what is written in its name."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sensorium.core.types import Embeddings

DIM = 37
THINGS = ("red apple", "green apple", "red car", "green frog", "blue whale")


class WordModel:
    """Adds one fixed random direction for each word."""

    fingerprint = "words-0001"

    def embed(self, items: Sequence[object]) -> Embeddings:
        texts = [item.stem.replace("_", " ") if isinstance(item, Path) else str(item) for item in items]
        rows = [sum(word_direction(word) for word in text.split()) for text in texts]
        vectors = np.array(rows, dtype=np.float32).reshape(len(items), DIM)
        return Embeddings(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def word_direction(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def png(colour: tuple[int, int, int], size: tuple[int, int] = (23, 17)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()
