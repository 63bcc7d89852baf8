"""The decoder: cached = uncached, rows = singles, padding changes nothing, a closed gate = no memory."""

import pytest
import torch

from sensorium.core.errors import UsageError
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.nn.block import BlockConfig

V, D, M, S, N = 31, 24, 13, 7, 11
BLOCK = BlockConfig(
    dim=D, num_heads=6, num_kv_heads=2, norm="rms", mlp="swiglu", mlp_dim=29, qkv_bias=False, out_bias=False,
    is_causal=True, rotary_axes=1,
)  # fmt: skip
CONFIGS = {
    "llama": LanguageModelConfig(vocab_size=V, block=BLOCK, depth=3),
    "untied": LanguageModelConfig(vocab_size=V, block=BLOCK, depth=2, is_tied=False),
    "memory": LanguageModelConfig(
        vocab_size=V, block=BLOCK.model_copy(update={"memory_dim": M}), depth=5, memory_every=2
    ),
    "paced": LanguageModelConfig(
        vocab_size=V, block=BLOCK.model_copy(update={"memory_dim": M, "memory_diagonal_slope": 0.3}), depth=2
    ),
    "learned": LanguageModelConfig(
        vocab_size=V, block=BLOCK.model_copy(update={"rotary_axes": 0}), depth=2, num_positions=N
    ),
}


def build(name: str) -> LanguageModel:
    torch.manual_seed(3)
    model = LanguageModel(CONFIGS[name]).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def some_ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(1))


def memory_of(model: LanguageModel, rows: int) -> list | None:
    if not model.config.block.memory_dim:
        return None
    values = torch.randn(rows, S, M, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return model.memory_key_values(values, torch.arange(S) < torch.tensor([[S], [3]])[:rows])


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_equals_uncached(name: str) -> None:
    model, ids = build(name), some_ids(2, N)
    memory = memory_of(model, 2)
    whole = model.logits(model(model.embed(ids), memory=memory))
    caches = model.new_caches(2, N + 2)
    parts = []
    for start, end in ((0, 5), (5, 6), (6, N)):
        at = torch.arange(start, end)[None]
        hidden = model(model.embed(ids[:, start:end], at), positions=at, memory=memory, caches=caches)
        parts.append(model.logits(hidden))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_rows_of_unequal_length_stand_for_themselves() -> None:
    model, ids = build("llama"), some_ids(2, N)
    lengths, caches = torch.tensor([[6], [3]]), model.new_caches(2, N)
    mask = torch.arange(6) < lengths
    model(model.embed(ids[:, :6]), mask, caches=caches)
    for cache in caches:
        cache.limit = 7
    step = model(model.embed(ids[:, 6:7]), positions=lengths, caches=caches)
    for row, length in enumerate((6, 3)):
        alone = torch.cat([ids[row, :length], ids[row, 6:7]])[None]
        torch.testing.assert_close(step[row, 0], model(model.embed(alone))[0, -1])


def test_rows_come_and_go_without_touching_others() -> None:
    model, ids = build("llama"), some_ids(2, N)
    caches = model.new_caches(2, N)
    model(model.embed(ids[:, :5]), caches=caches)
    for cache in caches:
        cache.clear([0])
    model(model.embed(ids[1:, :3]), caches=[cache.rows(slice(0, 1)) for cache in caches])
    at = torch.tensor([[3], [5]])
    step = model(model.embed(ids[:, 5:6]), positions=at, caches=caches)
    first = torch.cat([ids[1, :3], ids[0, 5:6]])[None]
    torch.testing.assert_close(step[0, 0], model(model.embed(first))[0, -1])
    torch.testing.assert_close(step[1, 0], model(model.embed(ids[1:, :6]))[0, -1])


def test_selected_rows_go_on_as_copies() -> None:
    model, ids = build("llama"), some_ids(2, N)
    caches = model.new_caches(2, N)
    model(model.embed(ids[:, :4]), caches=caches)
    for cache in caches:
        cache.select(torch.tensor([1, 1]))
    step = model(model.embed(ids[:, 4:5]), positions=torch.tensor([[4]]), caches=caches)
    for row in (0, 1):
        alone = torch.cat([ids[1, :4], ids[row, 4:5]])[None]
        torch.testing.assert_close(step[row, 0], model(model.embed(alone))[0, -1])


def test_memory_every_other_block_the_last_among_them() -> None:
    has_memory = [block.memory_attention is not None for block in build("memory").stack.blocks]
    assert has_memory == [True, False, True, False, True]


def test_more_tokens_than_fit_are_refused() -> None:
    model = build("llama")
    with pytest.raises(UsageError, match="5 tokens do not fit a cache of 4"):
        model(model.embed(some_ids(1, 5)), caches=model.new_caches(1, 4))
