"""A decoder attends to what a fusion gives, whatever was present."""

import pytest
import torch
from torch import Tensor

from sensorium.core.types import Tokens
from sensorium.fusion import FUSIONS, FusionOutput, build
from sensorium.nn.block import BlockConfig, Stack

DIMS = {"image": 5, "text": 3}
OUT_DIM = 7


def decode(decoder: Stack, memory: FusionOutput) -> Tensor:
    """Three written tokens, each attending to the memory."""
    written = (
        torch.linspace(-1, 1, 33, dtype=torch.float64).reshape(1, 3, 11).expand(len(memory.mask), -1, -1)
    )
    return decoder(written, memory=decoder.memory_key_values(memory.tokens, memory.mask))


@pytest.mark.parametrize("name", list(FUSIONS))
def test_decoder_reads_the_tokens_of_any_fusion(name: str) -> None:
    torch.manual_seed(1)
    fusion = build(name, DIMS, OUT_DIM).double().eval()
    decoder = Stack(
        BlockConfig(dim=11, num_heads=1, memory_dim=OUT_DIM, gated_memory=False), depth=2
    ).double()
    image = torch.randn(3, 4, 5, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    text = Tokens(torch.randn(3, 2, 3, dtype=torch.float64), mask[:, :2])
    told = decode(decoder, fusion({"image": Tokens(image, mask), "text": text}))
    assert told.isfinite().all()
    assert (told[0] - told[2]).norm() > 1e-3 * told[2].norm()  # row 2 has nothing to tell
    spoilt = image.masked_fill(~mask[..., None], float("nan"))
    assert torch.equal(told, decode(decoder, fusion({"image": Tokens(spoilt, mask), "text": text})))
    alone = fusion({"image": Tokens(image[:1], mask[:1]), "text": Tokens(text.values[:1], text.mask[:1])})
    torch.testing.assert_close(decode(decoder, alone)[0], told[0], rtol=1e-9, atol=1e-9)
