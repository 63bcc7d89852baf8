"""Fuse a picture and its caption: does the one fit the other? Neither knows alone.

    python examples/fuse_modalities.py

Pictures are 9 noisy cells of one colour, captions 2 to 4 words of which one names a colour. A fusion in which
modalities meet tells whether the two agree; a weighted average of what each says by itself cannot.
"""

import torch
from torch import nn

import sensorium as sm
from sensorium.core.types import Tokens

COLOURS = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]]).float()
NUM_FILLERS = 5  # words that name no colour
DIMS = {"image": 3, "text": len(COLOURS) + NUM_FILLERS}


def draw(num_rows: int, draws: torch.Generator) -> tuple[dict[str, Tokens], torch.Tensor]:
    """Pictures and captions of any lengths, half of which fit."""
    shown = torch.randint(len(COLOURS), (num_rows,), generator=draws)
    fits = torch.randint(2, (num_rows,), generator=draws)
    named = (shown + (1 - fits) * torch.randint(1, len(COLOURS), (num_rows,), generator=draws)) % len(COLOURS)
    cells = COLOURS[shown][:, None] + 0.2 * torch.randn(num_rows, 9, 3, generator=draws)
    words = torch.randint(len(COLOURS), DIMS["text"], (num_rows, 4), generator=draws)
    lengths = torch.randint(2, 5, (num_rows, 1), generator=draws)
    place = (torch.rand(num_rows, generator=draws) * lengths[:, 0]).long()
    words[torch.arange(num_rows), place] = named
    text = Tokens(nn.functional.one_hot(words, DIMS["text"]).float(), torch.arange(4) < lengths)
    return {"image": Tokens(cells, torch.ones(num_rows, 9, dtype=torch.bool)), "text": text}, fits


@torch.no_grad()
def accuracy(fuse: nn.Module, features: dict[str, Tokens], fits: torch.Tensor) -> float:
    """Share of rows told right; a modality that is left out of `features` is absent."""
    return float((fuse(features).pooled.argmax(dim=1) == fits).float().mean())


for name in ("weighted", "transformer"):
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    fuse = sm.fusion.build(name, DIMS, out_dim=2)
    optimizer = torch.optim.AdamW(fuse.parameters(), lr=3e-3)
    for _ in range(300):
        features, fits = draw(64, draws)
        loss = nn.functional.cross_entropy(fuse(features).pooled, fits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features, fits = draw(2000, draws)
    both, picture = accuracy(fuse.eval(), features, fits), {"image": features["image"]}
    cost = f"{fuse.num_parameters:,} parameters, {fuse.flops({'image': 9, 'text': 3}):,} FLOPs"
    print(f"{name}: both {both:.3f}, picture alone {accuracy(fuse, picture, fits):.3f} ({cost})")
