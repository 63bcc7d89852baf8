"""Train a CNN and a GRU from random weights on drawings, and search for what they never saw.

    python examples/learn_shapes.py

Forty-eight things (eight colours, six shapes) are drawn eight times each. A fifth of the *captions* is held
out: where "a red bar" is, no picture of one is trained on, though red things and bars are.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import sensorium as sm
from sensorium.data.loading.split import split
from sensorium.data.table.sample import Caption, Sample
from sensorium.models.embed import embed_table
from sensorium.training.recipe import Recipe
from sensorium.training.trainer import train

COLOURS = ("red", "green", "blue", "gold", "black", "purple", "orange", "cyan")
CORNERS = {"triangle": [0, 8, 16], "square": [3, 9, 15, 21], "diamond": [0, 6, 12, 18], "bar": [4, 8, 16, 20]}
CORNERS |= {"hexagon": list(range(0, 24, 4)), "circle": list(range(24))}
RNG = np.random.default_rng(0)


def draw(name: str) -> bytes:
    """A PNG of "a gold square", somewhere near the middle."""
    _, colour, shape = name.split()
    x, y, r = *RNG.uniform(13, 19, 2), RNG.uniform(8, 12)
    corners = [(x + r * np.sin(np.pi * c / 12), y - r * np.cos(np.pi * c / 12)) for c in CORNERS[shape]]
    picture = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(picture).polygon(corners, colour)
    picture.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


folder = Path(tempfile.mkdtemp())
names = [f"a {colour} {shape}" for colour in COLOURS for shape in CORNERS] * 8
table = sm.Table.create(folder / "shapes.lance", description="Drawn shapes.", licence="CC0-1.0")
table.add(Sample(name, draw(name), texts=[Caption("en", name)]) for name in names)
image = {"encoder": "image-cnn", "options": {"width": 12, "depths": [1, 1, 1], "size_px": 32}}
text = {"encoder": "text-gru", "options": {"width": 48}}
recipe = {"seed": 1, "data": {"table": str(table.path), "test": 0.2, "vocab_size": 300}}
recipe["model"] = {"dim": 48, "towers": {"image": image, "text": text}}
recipe["loss"] = {"kind": "info_nce", "pairs": [{"a": "image", "b": "text"}]}
recipe["train"] = {"steps": 150, "batch_size": 64, "lr": 4e-3, "device": "cpu", "tensorboard": False}
run = train(Recipe.model_validate(recipe), folder / "run")
for pair, found in run.outcome.evaluation.metrics.items():
    print(f"{pair}: R@1 {found['R@1']:.2f} of {found['items']} unseen items, chance {found['chance@1']:.2f}")

model = sm.load(run.folder)
embed_table(table, model)
unseen = min(table.groups[row] for row in split(table.groups, test=0.2, seed=1)["test"])
for name, query in {unseen: unseen, "a picture of the same": sm.open(draw(unseen))}.items():
    print(name, "->", ", ".join(hit.uri for hit in table.search(query, model=model, k=4)))
