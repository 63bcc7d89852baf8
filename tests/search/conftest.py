"""A small table, embedded by the stand-in model."""

from pathlib import Path

import numpy as np
import pytest

from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table
from word_model import THINGS, WordModel, png


@pytest.fixture
def word_model() -> WordModel:
    return WordModel()


@pytest.fixture
def things(tmp_path: Path, word_model: WordModel) -> Table:
    """A row for each of THINGS with image vectors, as if the pictures had been embedded."""
    table = Table.create(tmp_path / "things.lance")
    table.add(
        Sample(f"{name}.png", image=png((40 * place, 90, 7)), texts=[Caption("en", name)])
        for place, name in enumerate(THINGS)
    )
    vectors = word_model.embed(list(THINGS)).vectors
    table.set_vectors("image", word_model.fingerprint, np.arange(len(THINGS)), vectors)
    return table
