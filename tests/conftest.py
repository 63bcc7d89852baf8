"""A tiny world that every layer may use: eight coloured shapes with captions and tones, and a model."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image, ImageDraw

from sensorium.codecs.bpe import train_bpe
from sensorium.core.types import MediaBatch, pad
from sensorium.data.sample import Caption, Clip, Sample
from sensorium.data.table import Table
from sensorium.losses import info_nce
from sensorium.media import Text
from sensorium.media import open as open_media
from sensorium.models import checkpoint
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig

COLOURS = {"red": (214, 40, 40), "green": (40, 150, 60), "blue": (40, 70, 200), "yellow": (240, 200, 30)}
SHAPES = ("circle", "square")
TINY_NAMES = tuple(f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES)


def draw_shape(name: str, size: int = 48) -> bytes:
    _, colour, shape = name.split()
    image = Image.new("RGB", (size, size), "white")
    canvas = ImageDraw.Draw(image)
    box = (size // 6, size // 6, size - size // 6, size - size // 6)
    (canvas.ellipse if shape == "circle" else canvas.rectangle)(box, fill=COLOURS[colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def play_tone(name: str) -> bytes:
    place = TINY_NAMES.index(name)
    times = np.arange(6400) / 16000
    wave = 0.4 * np.sin(2 * np.pi * 220 * 1.3**place * times)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave.astype(np.float32), 16000, format="WAV")
    return buffer.getvalue()


def tiny_samples() -> list[Sample]:
    return [
        Sample(
            f"{name.replace(' ', '_')}.png",
            image=draw_shape(name),
            audio=play_tone(name) if place % 2 == 0 else None,
            speech=[Clip("en", play_tone(name))] if place < 3 else [],
            texts=[Caption("en", name), Caption("de", f"nummer {place}")],
            source="tiny",
            meta={"category": name.split()[1]},
        )
        for place, name in enumerate(TINY_NAMES)
    ]


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
    batch = _batch(model)
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


def _batch(model: JointEmbedding) -> MediaBatch:
    """Image, text and tone of every name, each encoded once."""
    media = {
        "image": [open_media(draw_shape(name)) for name in TINY_NAMES],
        "text": [Text(name) for name in TINY_NAMES],
        "audio": [open_media(play_tone(name)) for name in TINY_NAMES],
    }
    inputs = {name: pad([model.tower(name).prepare(item) for item in items]) for name, items in media.items()}
    everywhere = torch.arange(len(TINY_NAMES))
    return MediaBatch(everywhere, dict.fromkeys(inputs, everywhere), inputs)
