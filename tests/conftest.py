"""Fixtures for every layer: a tiny table and a model that was trained on it."""

from pathlib import Path

import pytest
import torch

from fast import fast
from sensorium.codecs.bpe import train_bpe
from sensorium.data.table.table import Table
from sensorium.losses import info_nce
from sensorium.models import checkpoint
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig
from tiny_world import TINY_NAMES, tiny_batch, tiny_samples


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="run the tests of make test-fast")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests first, so that no process waits at the end for another's long one."""
    if config.getoption("--fast"):
        items[:] = fast(items)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model with image, text and audio towers, trained on the tiny samples for a second."""
    torch.manual_seed(5)
    config = JointEmbeddingConfig.model_validate(
        {
            "dim": 19,
            "towers": {
                "image": {"encoder": "image-cnn", "options": {"width": 8, "depths": [1, 1], "size_px": 32}},
                "text": {
                    "encoder": "text-gru",
                    "options": {"tokenizer_json": train_bpe(TINY_NAMES * 3, 300), "width": 24},
                },
                "audio": {"encoder": "audio-cnn", "options": {"width": 8, "depths": [1, 1], "dim": 24}},
            },
        }
    )
    model = JointEmbedding(config)
    batch = tiny_batch(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        vectors = model(batch)
        loss = info_nce(vectors["image"], vectors["text"], model.logit_scale)
        loss = loss + info_nce(vectors["audio"], vectors["image"], model.logit_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return checkpoint.save(
        model.eval(), tmp_path_factory.mktemp("run"), card="# Tiny\n\nKnows eight shapes.\n"
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_run: Path) -> JointEmbedding:
    return checkpoint.load(tiny_run)


@pytest.fixture
def tiny_table(tmp_path: Path) -> Table:
    """The tiny samples as a table, without vectors."""
    table = Table.create(tmp_path / "tiny.lance", licence="CC0-1.0")
    table.add(tiny_samples())
    return table
