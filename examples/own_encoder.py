"""Bring an encoder and a loss of your own: register them by name, and any recipe may use them.

    python examples/own_encoder.py

The encoder sees a 4 x 4 grid of mean colours; the loss asks each pair to beat the hardest wrong one by a
margin. A run that uses them loads wherever this file was imported.
"""

import io
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

import sensorium as sm
from sensorium.core.types import Padded, Tokens
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.transforms import ImageInput
from sensorium.encoders import ENCODERS
from sensorium.training.recipe import Recipe
from sensorium.training.trainer import train


@ENCODERS.register("colour-grid")
class ColourGrid(nn.Module):
    """Images (B, 3, H, W) to 16 tokens: `input` prepares one image, `forward` encodes a batch."""

    modality, input = "image", ImageInput(size_px=16)

    def __init__(self, *, dim: int = 32) -> None:
        super().__init__()
        self.dim, self.project = dim, nn.Linear(3, dim)

    def forward(self, inputs: Padded) -> Tokens:
        """Mean colour of each cell, then one layer; every token is real, none is padding."""
        cells = nn.functional.adaptive_avg_pool2d(inputs.values, 4).flatten(2).mT  # (B, 16, 3)
        return Tokens(self.project(cells).relu(), torch.ones(cells.shape[:2], dtype=torch.bool))


@sm.losses.LOSSES.register("hardest-margin")
def hardest_margin(a: Tensor, b: Tensor, logit_scale: Tensor, *, positives: Tensor) -> Tensor:
    """Hinge loss of unit rows; rows with equal `positives` (the same caption) are right for each other."""
    wrong = (cosines := a @ b.T).masked_fill(positives[:, None] == positives, -1)
    return (0.3 + torch.maximum(wrong.amax(0), wrong.amax(1)) - cosines.diagonal()).relu().mean()


table = sm.Table.create((folder := Path(tempfile.mkdtemp())) / "colours.lance")
for place, name in enumerate(["red", "green", "blue", "grey", "gold", "navy"] * 12):
    shade = Image.blend(*(Image.new("RGB", (20, 20), paint) for paint in (name, "white")), place / 200)
    shade.save(file := io.BytesIO(), "PNG")
    table.add([Sample(name, file.getvalue(), texts=[Caption("en", name)], source=f"part {place % 5}")])
recipe = {"data": {"table": str(table.path), "test": {"source": "part 0"}}}
text = {"encoder": "text-gru", "options": {"width": 16}}
recipe["model"] = {"dim": 16, "towers": {"image": {"encoder": "colour-grid"}, "text": text}}
recipe["loss"] = {"kind": "hardest-margin", "pairs": [{"a": "image", "b": "text"}]}
recipe["train"] = {"steps": 100, "batch_size": 16, "lr": 1e-2, "device": "cpu", "tensorboard": False}
run = train(Recipe.model_validate(recipe), folder / "run")
print("unseen shades, image->text: R@1", run.outcome.evaluation.metrics["image->text"]["R@1"])
