"""Small random decoders in float64, and a vocabulary of bytes."""

from collections.abc import Sequence

import torch

from sensorium.generation import PlainDecoder
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.nn.block import BlockConfig

V, D, M = 31, 24, 13
BLOCK = BlockConfig(
    dim=D, num_heads=6, num_kv_heads=2, norm="rms", mlp="swiglu", mlp_dim=29, qkv_bias=False, out_bias=False,
    is_causal=True, rotary_axes=1,
)  # fmt: skip
CONFIGS = {
    "llama": LanguageModelConfig(vocab_size=V, block=BLOCK, depth=2),
    "memory": LanguageModelConfig(vocab_size=V, block=BLOCK.model_copy(update={"memory_dim": M}), depth=2),
    "learned": LanguageModelConfig(
        vocab_size=V, block=BlockConfig(dim=D, num_heads=6, is_causal=True), depth=2, num_positions=53
    ),
}


def tiny_model(name: str = "llama", vocab_size: int = V) -> LanguageModel:
    """A model whose scores are far from even, so that ties cannot hide an error."""
    torch.manual_seed(3)
    config = CONFIGS[name].model_copy(update={"vocab_size": vocab_size})
    model = LanguageModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def tiny_decoder(name: str = "llama", *, rows: int = 3, capacity: int = 53, vocab: int = V) -> PlainDecoder:
    """A plain decoder over a tiny model."""
    return PlainDecoder(tiny_model(name, vocab), rows, capacity)


def some_prompts(count: int) -> list[list[int]]:
    """Prompts of different lengths."""
    stream = torch.Generator().manual_seed(5)
    return [torch.randint(V, (2 + 3 * number % 7,), generator=stream).tolist() for number in range(count)]


def spell(ids: Sequence[int]) -> str:
    """Ids below 31 as letters."""
    return "".join(chr(ord("a") + one) for one in ids)


def memory_of(model: LanguageModel, seed: int, length: int) -> list:
    """What one sequence attends to."""
    values = torch.randn(1, length, M, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return model.memory_key_values(values)
