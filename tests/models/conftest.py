"""Media and a model for the tests of models."""

import numpy as np
import pytest
from small_models import build, config

from sensorium.media.types import Audio, Image
from sensorium.models.joint_embedding import JointEmbedding


@pytest.fixture
def model() -> JointEmbedding:
    return build(config())


@pytest.fixture
def pictures() -> list[Image]:
    rng = np.random.default_rng(3)
    sizes = [(29, 31), (23, 41), (37, 19), (31, 31), (43, 29)]
    return [Image(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


@pytest.fixture
def sounds() -> list[Audio]:
    times = np.arange(16_001, dtype=np.float32)[:, None] / 16_000
    tones = [(8_009, 331), (16_001, 1_709), (4_001, 4_603)]
    return [Audio(np.sin(2 * np.pi * pitch * times[:length]), 16_000) for length, pitch in tones]
