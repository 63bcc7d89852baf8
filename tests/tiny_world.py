"""A tiny world that every layer may use: eight coloured shapes with captions and tones, and a model."""

import io

import numpy as np
import soundfile
import torch
from PIL import Image, ImageDraw

from sensorium.core.types import MediaBatch, pad
from sensorium.data.table.sample import Caption, Clip, Sample
from sensorium.media import Text
from sensorium.media import open as open_media
from sensorium.models.joint_embedding import JointEmbedding

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


def tiny_batch(model: JointEmbedding) -> MediaBatch:
    """Image, text and tone of every name, each encoded once."""
    media = {
        "image": [open_media(draw_shape(name)) for name in TINY_NAMES],
        "text": [Text(name) for name in TINY_NAMES],
        "audio": [open_media(play_tone(name)) for name in TINY_NAMES],
    }
    inputs = {name: pad([model.tower(name).prepare(item) for item in items]) for name, items in media.items()}
    everywhere = torch.arange(len(TINY_NAMES))
    return MediaBatch(everywhere, dict.fromkeys(inputs, everywhere), inputs)
