"""The compiled decoder: the plain one's numbers on rounded weights, equal bits in any company."""

import copy

import pytest
import torch
from tiny_decoders import some_prompts

from sensorium.core.errors import UsageError
from sensorium.core.jit import usable
from sensorium.generation import Engine, Feed, PlainDecoder, Request, Sampling
from sensorium.generation.cpu import kernels
from sensorium.generation.cpu.decoder import _COUNTER, CompiledDecoder
from sensorium.generation.cpu.weights import Format, dequantised
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.nn.block import BlockConfig

pytestmark = pytest.mark.skipif(not usable(), reason="numba does not compile here")
V, D, M = 307, 88, 13
LLAMA = BlockConfig(
    dim=D, num_heads=6, num_kv_heads=2, head_dim=16, norm="rms", mlp="swiglu", mlp_dim=101, qkv_bias=False,
    out_bias=False, is_causal=True, rotary_axes=1,
)  # fmt: skip
CONFIGS = {
    "llama": LanguageModelConfig(vocab_size=V, block=LLAMA, depth=2),
    "qwen": LanguageModelConfig(
        vocab_size=V,
        block=LLAMA.model_copy(update={"query_norm": True, "qkv_bias": True, "head_dim": 64}),
        depth=2,
        is_tied=False,
    ),
    "whisper": LanguageModelConfig(
        vocab_size=V,
        block=BlockConfig(dim=96, num_heads=6, is_causal=True, memory_dim=M, gated_memory=False),
        depth=3,
        num_positions=64,
    ),
    "gated": LanguageModelConfig(
        vocab_size=V, block=LLAMA.model_copy(update={"memory_dim": M}), depth=3, memory_every=2
    ),
}
BOUNDS = {"bf16": 0.015, "int8": 0.03, "int4": 0.04}
"""Relative error of the scores in the 2-norm: of activations that are rounded before each product."""


def build(name: str) -> LanguageModel:
    torch.manual_seed(3)
    model = LanguageModel(CONFIGS[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def with_rounded_weights(model: LanguageModel, kind: Format) -> LanguageModel:
    """The same model with the weights that the kernels multiply with, in float32."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for layer in twin.stack.modules():
            if isinstance(layer, torch.nn.Linear) and layer.in_features != M:
                layer.weight.copy_(dequantised(layer.weight, kind))
        twin.head = torch.nn.Linear(twin.config.block.dim, V, bias=False)
        twin.head.weight.copy_(dequantised(model.output_matrix, kind))
    return twin


def memory_of(model: LanguageModel, seed: int, length: int) -> list | None:
    if not model.config.block.memory_dim:
        return None
    values = torch.randn(1, length, M, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(length)[None] != 1
    return model.memory_key_values(values, mask)


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("name", CONFIGS)
def test_scores_are_the_plain_decoders_on_rounded_weights(name: str, kind: Format) -> None:
    model = build(name)
    ours = CompiledDecoder(model, 3, 61, weights=kind, head_weights=kind, num_threads=2)
    plain = PlainDecoder(with_rounded_weights(model, kind), 3, 61)
    for decoder in (ours, plain):
        decoder.clear(0, memory_of(model, 0, 5))
        decoder.clear(2, memory_of(model, 1, 19))
    for feeds in (
        [Feed(0, 0, list(range(23)), 23), Feed(2, 0, [7, 8, 9], 0)],
        [Feed(0, 23, [11]), Feed(2, 3, [6, 5], 2)],
    ):
        for found, wanted in zip(ours.advance(feeds), plain.advance(feeds), strict=True):
            assert found.shape == wanted.shape
            assert (found - wanted).norm() <= BOUNDS[kind] * wanted.norm()


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("name", ["llama", "gated"])
def test_bits_do_not_depend_on_company_cuts_or_threads(name: str, kind: Format) -> None:
    model, ids = build(name), torch.randint(V, (29,), generator=torch.Generator().manual_seed(1)).tolist()
    alone = CompiledDecoder(model, 1, 61, weights=kind, num_threads=1)
    crowded = CompiledDecoder(model, 13, 61, weights=kind, num_threads=2)
    alone.clear(0, memory_of(model, 1, 19))
    crowded.clear(5, memory_of(model, 1, 19))
    stepwise = torch.cat([alone.advance([Feed(0, place, [one])])[0] for place, one in enumerate(ids)])
    for start, end in ((0, 3), (3, 4), (4, 29)):
        others = [Feed(row, 0, ids[: row + 1]) for row in range(13) if row != 5][: 3 * start]
        feeds = [*others, Feed(5, start, ids[start:end], end - start)]
        assert torch.equal(crowded.advance(feeds)[-1], stepwise[start:end])


@pytest.mark.parametrize("name", ["whisper", "gated"])
def test_a_memory_may_be_longer_than_the_cache(name: str) -> None:
    model = build(name)
    with torch.no_grad():
        for block in model.stack.blocks:
            if block.memory_gate is not None:
                block.memory_gate.fill_(2.0)
    plain = PlainDecoder(with_rounded_weights(model, "bf16"), 2, 16)
    decoders = [CompiledDecoder(model, 2, 16, num_threads=threads) for threads in (1, 2)]
    for length in (7, 1501, 301):
        memory = memory_of(model, length, length)
        scores = []
        for decoder in (plain, *decoders):
            for row in (0, 1):
                decoder.clear(row, memory)
            feeds = [Feed(row, 0, [5, 9, 2, 6], num_scored=4) for row in (0, 1)]
            scores.append(torch.cat(decoder.advance(feeds)))
        assert (scores[1] - scores[0]).norm() <= BOUNDS["bf16"] * scores[0].norm()
        assert torch.equal(scores[1], scores[2])


def test_prompts_longer_than_a_run_and_vectors_in_place_of_ids() -> None:
    model = build("llama")
    decoder = CompiledDecoder(model, 2, 611, num_threads=1)
    ids = torch.randint(V, (601,), generator=torch.Generator().manual_seed(1)).tolist()
    [whole] = decoder.advance([Feed(0, 0, ids, 601)])
    vectors = model.embed(torch.tensor([ids]))[0].detach()
    assert torch.equal(decoder.advance([Feed(1, 0, vectors, 601)])[0], whole)
    wanted = PlainDecoder(with_rounded_weights(model, "bf16"), 1, 611).advance([Feed(0, 0, ids, 601)])[0]
    assert (whole - wanted).norm() <= BOUNDS["bf16"] * wanted.norm()


def test_counters_lie_where_the_kernels_look_for_them() -> None:
    assert kernels.LINE == 8 * _COUNTER  # a smaller step here would let threads write behind the end


def test_threads_may_be_fewer_than_it_was_built_for() -> None:
    decoder = CompiledDecoder(build("llama"), 1, 61, num_threads=2)
    wanted = decoder.advance([Feed(0, 0, [5, 7])])[0]
    decoder.num_threads = 1
    assert torch.equal(decoder.advance([Feed(0, 0, [5, 7])])[0], wanted)
    with pytest.raises(UsageError, match="num_threads=3, but the decoder was built for 1 to 2"):
        decoder.num_threads = 3


def test_rows_are_copied_for_beams() -> None:
    decoder = CompiledDecoder(build("llama"), 3, 61, num_threads=1)
    decoder.advance([Feed(row, 0, [5 + row, 7]) for row in range(3)])
    wanted = decoder.advance([Feed(2, 2, [9])])[0]
    decoder.copy([2, 1])
    assert torch.equal(decoder.advance([Feed(0, 2, [9])])[0], wanted)
    assert not torch.equal(decoder.advance([Feed(1, 2, [9])])[0], wanted)


@pytest.mark.parametrize("kind", BOUNDS)
def test_the_engine_over_it_is_so_many_singles_guessed_or_not(kind: Format) -> None:
    model, warm = build("llama"), Sampling(temperature=0.8, seed=3)
    requests = [Request(prompt * 2, warm, max_tokens=13, lookup=4) for prompt in some_prompts(5)]
    together = Engine(CompiledDecoder(model, 3, 61, weights=kind, num_threads=2)).run(requests)
    single = Engine(CompiledDecoder(model, 1, 61, weights=kind, num_threads=1))
    for request, found in zip(requests, together, strict=True):
        plain = Request(request.prompt, warm, max_tokens=13)
        assert single.run([plain]) == [found], "ids and log-probabilities, to the last bit"


def test_an_interrupt_leaves_no_thread_waiting_and_the_rows_as_they_were() -> None:
    decoder = CompiledDecoder(build("llama"), 1, 61, num_threads=2)
    decoder.advance([Feed(0, 0, [5, 7])])
    wanted = decoder.advance([Feed(0, 2, [9])])[0]
    step = decoder._step

    def interrupted(*arguments: object) -> None:
        if arguments[-2] == 0:
            raise KeyboardInterrupt
        step(*arguments)

    decoder._step = interrupted
    with pytest.raises(KeyboardInterrupt):
        decoder.advance([Feed(0, 2, [9])])
    decoder._step = step
    assert torch.equal(decoder.advance([Feed(0, 2, [9])])[0], wanted)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_rounding_twice_is_rounding_once(kind: Format) -> None:
    weight = torch.randn(37, 101, generator=torch.Generator().manual_seed(1))
    once = dequantised(weight, kind)
    assert not torch.equal(once, weight)
    torch.testing.assert_close(dequantised(once, kind), once, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_place": "post"}, "norm_place='pre'"),
        ({"is_causal": False}, "is_causal=True"),
        ({"head_dim": 8}, "heads of a multiple of 16"),
    ],
)
def test_models_that_the_kernels_do_not_know_are_refused(change: dict, message: str) -> None:
    config = CONFIGS["llama"].model_copy(update={"block": LLAMA.model_copy(update=change)})
    with pytest.raises(UsageError, match=message):
        CompiledDecoder(LanguageModel(config), 1, 61)
