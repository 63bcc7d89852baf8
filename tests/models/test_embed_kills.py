"""`sensorium embed` is killed at random moments: what was written stays, and the end is as without kills."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from effort import NUM_KILLS
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.models.embed import embed_rows
from sensorium.models.joint_embedding import JointEmbedding
from word_model import png

NUM_ROWS = 6007


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_kills(
    tmp_path: Path, tiny_run: Path, tiny_model: JointEmbedding
) -> None:
    table = Table.create(tmp_path / "many.lance")
    pictures = ((row % 251, row // 251, 7) for row in range(NUM_ROWS))
    table.add(Sample(f"{row}.png", image=png(colour)) for row, colour in enumerate(pictures))
    command = [sys.executable, "-m", "sensorium", "embed", str(table.path), "--model", str(tiny_run)]
    missing, rng = NUM_ROWS, random.Random(17)
    for _ in range(NUM_KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left = len(Table.open(table.path).vectors_missing("image", tiny_model.fingerprint))
        assert left <= missing
        missing = left
    subprocess.run(command, check=True, capture_output=True)
    rows, vectors = Table.open(table.path).vectors("image", tiny_model.fingerprint)
    np.testing.assert_array_equal(rows, np.arange(NUM_ROWS))
    some = np.arange(0, NUM_ROWS, 199)
    np.testing.assert_allclose(vectors[some], embed_rows(table, tiny_model, "image", some).vectors, atol=1e-4)
