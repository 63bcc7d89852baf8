"""What needs two modalities at once: fusions with interactions learn it, sums of modalities cannot."""

import pytest
import torch
from torch import Tensor, nn

from sensorium.core.types import Tokens
from sensorium.fusion import Fusion, build

DIMS = {"sound": 5, "picture": 11}
LENGTHS = {"sound": 3, "picture": 7}


class Xor:
    """Each modality says a bit, by the sign of a direction in one of its tokens; y is their XOR."""

    def __init__(self, seed: int) -> None:
        self.draws = torch.Generator().manual_seed(seed)
        self.directions = {
            name: nn.functional.normalize(torch.randn(dim, generator=self.draws), dim=0)
            for name, dim in DIMS.items()
        }

    def draw(self, num_rows: int) -> tuple[dict[str, Tokens], Tensor]:
        bits = {name: torch.randint(2, (num_rows,), generator=self.draws) for name in DIMS}
        features = {name: self._tokens(name, bits[name]) for name in DIMS}
        return features, bits["sound"] ^ bits["picture"]

    def _tokens(self, name: str, bits: Tensor) -> Tokens:
        num_rows, length = len(bits), LENGTHS[name]
        values = 0.3 * torch.randn(num_rows, length, DIMS[name], generator=self.draws)
        place = torch.randint(length, (num_rows,), generator=self.draws)
        values[torch.arange(num_rows), place] += 3 * (2 * bits[:, None] - 1) * self.directions[name]
        return Tokens(values, torch.ones(num_rows, length, dtype=torch.bool))


def accuracy(name: str, task: Xor, num_steps: int, **options: object) -> float:
    """Train a fusion of two classes on fresh rows, measure it on others."""
    torch.manual_seed(0)
    fusion = build(name, DIMS, out_dim=2, width=32, modality_dropout=0.05, **options)
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=3e-3)
    for _ in range(num_steps):
        features, labels = task.draw(64)
        loss = nn.functional.cross_entropy(fusion(features).pooled, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return measure(fusion.eval(), task)


@torch.no_grad()
def measure(fusion: Fusion, task: Xor) -> float:
    features, labels = task.draw(2003)
    return float((fusion(features).pooled.argmax(dim=1) == labels).float().mean())


def test_transformer_solves_xor_where_late_averaging_cannot() -> None:
    late = accuracy("weighted", Xor(seed=1), num_steps=80)
    assert late <= 0.60  # 0.50 is chance, and all that one modality at a time can say
    assert accuracy("transformer", Xor(seed=1), num_steps=80, depth=1) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["concat", "gated", "tensor", "lowrank", "cross_attention", "mult", "bottleneck"]
)
def test_every_fusion_with_interactions_solves_xor(name: str) -> None:
    assert accuracy(name, Xor(seed=1), num_steps=150) >= 0.98
