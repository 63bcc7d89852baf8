"""Beam search: as wide as all beginnings it is brute force; of width one it is greedy."""

import itertools

import pytest
import torch
from tiny_decoders import memory_of, tiny_decoder, tiny_model

from sensorium.core.errors import UsageError
from sensorium.generation import Engine, PlainDecoder, Request
from sensorium.generation.beam import beam_search

V, STOP, PROMPT = 5, 2, [3, 1]


@torch.no_grad()
def brute_force(length: int, power: float) -> list[tuple[tuple[int, ...], float]]:
    """Score every sequence that ends by the stop id or at `length`."""
    model, others = tiny_model(vocab_size=V), [one for one in range(V) if one != STOP]
    ended = [(*ids, STOP) for n in range(length) for ids in itertools.product(others, repeat=n)]
    found = []
    for ids in [*ended, *itertools.product(others, repeat=length)]:
        whole = torch.tensor([[*PROMPT, *ids]])
        logprobs = model.logits(model(model.embed(whole)))[0, len(PROMPT) - 1 : -1].log_softmax(-1)
        total = float(logprobs.gather(1, torch.tensor(ids)[:, None]).sum())
        found.append((tuple(one for one in ids if one != STOP), total / len(ids) ** power))
    return sorted(found, key=lambda one: -one[1])


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_a_beam_of_every_beginning_is_brute_force(power: float) -> None:
    width = (V - 1) ** 2
    decoder = tiny_decoder(rows=width, vocab=V)
    found = beam_search(decoder, PROMPT, width=width, max_tokens=3, stop_ids=[STOP], length_power=power)
    wanted = brute_force(3, power)[:width]
    assert [one.ids for one in found[:5]] == [ids for ids, _ in wanted[:5]]
    torch.testing.assert_close([one.score for one in found[:5]], [score for _, score in wanted[:5]])


def test_a_beam_of_one_is_greedy() -> None:
    [found] = beam_search(tiny_decoder(), [3, 1, 4], width=1, max_tokens=13)
    assert list(found.ids) == Engine(tiny_decoder()).run([Request([3, 1, 4], max_tokens=13)])[0].ids


def test_wider_is_never_worse_here_and_memory_counts() -> None:
    model = tiny_model("memory")
    with torch.no_grad():
        for block in model.stack.blocks:
            block.memory_gate.fill_(2.0)
    results = {
        (width, seed): beam_search(
            PlainDecoder(model, 7, 31), [3, 1], width=width, max_tokens=6, memory=memory_of(model, seed, 5)
        )[0]
        for width in (1, 7)
        for seed in (1, 2)
    }
    assert results[7, 1].score >= results[1, 1].score
    assert results[7, 1].ids != results[7, 2].ids


def test_more_beams_than_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="width=4, but the decoder has 3 rows"):
        beam_search(tiny_decoder(), [1], width=4, max_tokens=2)
