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
    rng = np.random.default_rng(5)
    return [
        Audio(rng.standard_normal((length, 1)).astype(np.float32), 16_000)
        for length in (8_009, 16_001, 4_001)
    ]
