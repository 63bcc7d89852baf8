"""Block and Stack: each configuration keeps its laws."""

from dataclasses import dataclass, field

import pytest
import torch

from sensorium.nn.attention import KeyValues
from sensorium.nn.block import Block, BlockConfig, Stack
from sensorium.nn.mlp import Drop

B, N, S, D, M = 2, 5, 7, 24, 13


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(stack: Stack | Block) -> Stack | Block:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return stack.double().eval()


LLAMA = BlockConfig(
    dim=D, num_heads=6, num_kv_heads=2, norm="rms", mlp="swiglu", mlp_dim=29, qkv_bias=False, out_bias=False,
    is_causal=True, rotary_axes=1,
)  # fmt: skip
BERT = BlockConfig(dim=D, num_heads=3, norm_place="post", mlp_dim=31)
ALL = {
    "llama": LLAMA,
    "bert": BERT,
    "qwen3": LLAMA.model_copy(update={"query_norm": True, "head_dim": 10}),
    "memory": LLAMA.model_copy(update={"memory_dim": M}),
}


@pytest.mark.parametrize("name", ALL)
def test_masked_tokens_change_nothing(name: str) -> None:
    stack, x = shaken(Stack(ALL[name], 3)), tokens(B, N, D)
    mask = torch.arange(N) < torch.tensor([[N], [2]])
    spoilt = x.masked_fill(~mask[..., None], 1e3)
    torch.testing.assert_close(stack(x, mask)[mask], stack(spoilt, mask)[mask])
    torch.testing.assert_close(stack(x, mask)[1, :2], stack(x[1:, :2])[0])


def test_closed_gate_leaves_the_block_as_it_was() -> None:
    stack = shaken(Stack(ALL["memory"], 2))
    x, memory = tokens(B, N, D), tokens(B, S, M, seed=1)
    given = stack.memory_key_values(memory)
    assert (stack(x, memory=given) - stack(x)).abs().max() > 1e-3
    with torch.no_grad():
        for block in stack.blocks:
            block.memory_gate.zero_()
    torch.testing.assert_close(stack(x, memory=given), stack(x), rtol=0, atol=0)


def test_a_new_gate_is_closed_but_learns() -> None:
    block = Block(ALL["memory"]).double()
    given = block.memory_key_values(tokens(B, S, M, seed=1))
    block(tokens(B, N, D), memory=given).square().sum().backward()
    assert block.memory_gate is not None
    assert block.memory_gate.item() == 0
    assert block.memory_gate.grad.abs() > 0


def test_memory_mask_hides() -> None:
    stack = shaken(Stack(ALL["memory"], 2))
    x, memory = tokens(B, N, D), tokens(B, S, M, seed=1)
    mask = torch.arange(S) < torch.tensor([[3], [S]])
    spoilt = memory.masked_fill(~mask[..., None], 1e3)
    torch.testing.assert_close(
        stack(x, memory=stack.memory_key_values(memory, mask)),
        stack(x, memory=stack.memory_key_values(spoilt, mask)),
    )


@dataclass
class StaticCache:
    """The least a cache can be: full capacity, written in place."""

    keys: torch.Tensor = field(default_factory=lambda: torch.zeros(B, 2, 11, 4, dtype=torch.float64))
    values: torch.Tensor = field(default_factory=lambda: torch.zeros(B, 2, 11, 4, dtype=torch.float64))

    def extend(self, new: KeyValues, positions: torch.Tensor | None) -> KeyValues:
        assert positions is not None
        self.keys[:, :, positions[0]] = new.keys
        self.values[:, :, positions[0]] = new.values
        return KeyValues(self.keys, self.values, places=positions)


@pytest.mark.parametrize("steps", [(5,), (3, 2), (1, 1, 1, 1, 1)])
def test_cached_decoding_equals_uncached(steps: tuple[int, ...]) -> None:
    stack, x = shaken(Stack(ALL["memory"], 3)), tokens(B, N, D)
    memory = stack.memory_key_values(tokens(B, S, M, seed=1))
    caches, parts, start = [StaticCache() for _ in range(3)], [], 0
    for length in steps:
        positions = torch.arange(start, start + length).expand(B, -1)
        part = x[:, start : start + length]
        parts.append(stack(part, positions=positions, memory=memory, caches=caches))
        start += length
    torch.testing.assert_close(torch.cat(parts, dim=1), stack(x, memory=memory), rtol=1e-12, atol=1e-12)


def test_bert_block_equals_torch() -> None:
    theirs = torch.nn.TransformerEncoderLayer(
        D, 3, 31, dropout=0.0, activation="gelu", batch_first=True, layer_norm_eps=1e-6
    ).double()
    torch.manual_seed(2)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = Block(BERT).double()
    attention, theirs_attention = ours.attention, theirs.self_attn
    pairs = zip(
        (attention.query, attention.key, attention.value),
        theirs_attention.in_proj_weight.chunk(3),
        theirs_attention.in_proj_bias.chunk(3),
        strict=True,
    )
    for layer, weight, bias in pairs:
        layer.load_state_dict({"weight": weight, "bias": bias})
    attention.out.load_state_dict(theirs_attention.out_proj.state_dict())
    ours.attention_norm.load_state_dict(theirs.norm1.state_dict())
    ours.mlp_norm.load_state_dict(theirs.norm2.state_dict())
    ours.mlp.up.load_state_dict(theirs.linear1.state_dict())
    ours.mlp.down.load_state_dict(theirs.linear2.state_dict())
    x, mask = tokens(B, N, D), torch.arange(N) < torch.tensor([[N], [3]])
    expected = theirs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, mask)[mask], expected[mask], rtol=1e-12, atol=1e-12)


def test_dropping_keeps_the_mean_and_vanishes_in_evaluation() -> None:
    torch.manual_seed(1)
    drop, x = Drop(values=0.1, samples=0.5), torch.ones(4001, 3, 5)
    dropped = drop.train()(x)
    is_skipped = (dropped == 0).all(dim=2).all(dim=1)
    assert float(is_skipped.float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.05)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0.0, 1 / 0.9 / 0.5])
    assert drop.eval()(x) is x


def test_depth_does_not_change_the_scale_at_the_start() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, N, D)
    shallow, deep = (Stack(BlockConfig(dim=D, num_heads=3), depth) for depth in (2, 32))
    for stack in (shallow, deep):
        stack.norm = torch.nn.Identity()
    with torch.no_grad():
        assert float((deep(x) - x).norm() / (shallow(x) - x).norm()) < 4
