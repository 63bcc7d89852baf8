"""A table of coloured squares with phrases and boxes, and a grounder small enough for seconds of training."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sensorium.codecs.bpe import train_bpe
from sensorium.data.table.sample import Caption, Region, Sample
from sensorium.data.table.table import Table
from sensorium.models.grounder import Grounder, GrounderConfig

INK = {"red": (220, 30, 30), "green": (30, 170, 50), "blue": (30, 60, 220)}
SIDE = 32


def square_sample(number: int, source: str, seed: int = 0) -> Sample:
    """Two squares of different colours in opposite halves, and a colour that is not there."""
    rng = np.random.default_rng([seed, number])
    pixels = np.full((SIDE, SIDE, 3), 245, np.uint8)
    colours = [str(name) for name in rng.permutation(list(INK))]
    regions = []
    for half, colour in enumerate(colours[:2]):
        size = int(rng.integers(9, 13))
        x, y = int(rng.integers(1, 15 - size + 1)) + 16 * half, int(rng.integers(1, SIDE - size - 1))
        pixels[y : y + size, x : x + size] = INK[colour]
        text = f"the {colour} square"
        regions.append(Region(text, 0, len(text), [(float(x), float(y), float(x + size), float(y + size))]))
    absent = f"the {colours[2]} square"
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Sample(
        f"squares:{source}/{number}",
        image=buffer.getvalue(),
        texts=[
            Caption("en", f"a {colours[0]} square and a {colours[1]} square"),
            Caption("en", f"the {colours[1]} square and the {colours[0]} square"),
        ],
        regions=[*regions, Region(absent, 0, len(absent))],
        source=source,
        meta={"types": "colour colour absent"},
    )


def square_table(path: Path, num_train: int = 24, num_test: int = 6) -> Table:
    table = Table.create(path, licence="CC0-1.0")
    table.add(square_sample(number, "squares") for number in range(num_train))
    table.add(square_sample(number, "squares-test", seed=1) for number in range(num_test))
    return table


def tokenizer_json() -> str:
    texts = [f"the {colour} square and a thing left of it" for colour in INK]
    return train_bpe(texts * 5, 300, lowercase=True)


def config_values(depth: int = 1, **options: Any) -> dict[str, Any]:
    return {
        "image": {"encoder": "image-cnn", "options": {"width": 16, "depths": [1, 1], "size_px": SIDE}},
        "text": {
            "encoder": "text-transformer",
            "options": {"width": 16, "depth": 1, "num_heads": 2, "tokenizer_json": tokenizer_json()},
        },
        "dim": 16,
        "depth": depth,
        "num_heads": 2,
        **options,
    }


def small_grounder(depth: int = 1, seed: int = 0, **options: Any) -> Grounder:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Grounder(GrounderConfig.model_validate(config_values(depth, **options)))


def recipe_values(table: Path, depth: int = 1, **train: Any) -> dict[str, Any]:
    return {
        "task": "grounding",
        "data": {
            "table": str(table),
            "test": {"source": ["squares-test"]},
            "texts_per_image": 2 if depth else 0,
            "vocab_size": 300,
        },
        "model": config_values(depth),
        "train": {"steps": 5, "batch_size": 8, "lr": 5e-3, "device": "cpu", "tensorboard": False, **train},
    }
