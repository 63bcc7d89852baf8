"""A finished decoder that learns to look: unchanged until it trains, and frozen but for what was added."""

import pytest
import torch

from sensorium.models.decoder import adapter_names, add_cross_attention, add_lora
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.nn.block import BlockConfig
from sensorium.nn.lora import LoRALinear, adapt

V, D, M, S, N, DEPTH = 31, 24, 13, 7, 11, 5
BLOCK = BlockConfig(
    dim=D, num_heads=6, num_kv_heads=2, norm="rms", mlp="swiglu", mlp_dim=29, qkv_bias=False, out_bias=False,
    is_causal=True, rotary_axes=1,
)  # fmt: skip


@pytest.fixture
def finished() -> LanguageModel:
    torch.manual_seed(3)
    return LanguageModel(LanguageModelConfig(vocab_size=V, block=BLOCK, depth=DEPTH)).eval()


def logits(model: LanguageModel, *, looks: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(V, (2, N), generator=generator)
    values = torch.randn(2, S, model.config.block.memory_dim or M, generator=generator)
    memory = model.memory_key_values(values) if looks and model.config.block.memory_dim else None
    return model.logits(model(model.embed(ids), memory=memory))


@pytest.mark.parametrize("last", [None, 2])
@pytest.mark.parametrize("rank", [0, 3])
def test_adapters_that_have_not_trained_change_no_bit(
    finished: LanguageModel, last: int | None, rank: int
) -> None:
    before = logits(finished)
    adapted = add_cross_attention(finished, M, last)
    add_lora(adapted, rank)
    assert torch.equal(logits(adapted.eval()), before)
    with torch.no_grad():
        adapted.stack.blocks[-1].memory_gate.fill_(0.5)
    assert not torch.equal(logits(adapted), before)  # else the law above says nothing


@pytest.mark.parametrize("rank", [0, 3])
def test_only_what_was_added_trains(finished: LanguageModel, rank: int) -> None:
    adapted = add_cross_attention(finished, M, 2)
    add_lora(adapted, rank)
    added = set(adapter_names(adapted))
    assert {name for name, parameter in adapted.named_parameters() if parameter.requires_grad} == added
    assert {name.split(".")[2] for name in added if ".memory_" in name} == {"3", "4"}
    assert sum(name.endswith((".up", ".down")) for name in added) == (4 * DEPTH if rank else 0)
    logits(adapted).square().sum().backward()
    reached = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert reached == added


def test_low_rank_is_its_equation() -> None:
    torch.manual_seed(2)
    layers = torch.nn.ModuleDict({"query": torch.nn.Linear(7, 5), "other": torch.nn.Linear(7, 5)}).double()
    weight = layers["query"].weight.detach().clone()
    assert adapt(layers, ["query"], rank=3, alpha=6.0) == 1
    adapter = layers["query"].double()
    assert isinstance(adapter, LoRALinear)
    torch.nn.init.normal_(adapter.up)
    x = torch.randn(4, 7, dtype=torch.float64)
    expected = x @ (weight + 2 * adapter.up @ adapter.down).T + adapter.base.bias
    torch.testing.assert_close(adapter(x), expected)


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no linear layer is called key"):
        adapt(torch.nn.ModuleDict({"query": torch.nn.Linear(3, 3)}), ["key"], 2)
