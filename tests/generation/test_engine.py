"""The engine: a batch is so many singles, a stream its completion; what comes and goes leaves no trace."""

import dataclasses
import gc
import threading
from collections.abc import Sequence

import pytest
import torch
from tiny_decoders import CONFIGS, V, memory_of, some_prompts, spell, tiny_decoder, tiny_model

from sensorium.core.errors import UsageError
from sensorium.generation import Engine, PlainDecoder, Request, Sampling

WARM = Sampling(temperature=0.9, top_k=11, seed=7)


def uncached(model: torch.nn.Module, prompt: list[int], count: int, memory: list | None = None) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        logits = model.logits(model(model.embed(torch.tensor([ids])), memory=memory))
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_is_the_uncached_argmax(name: str) -> None:
    model = tiny_model(name)
    memory = memory_of(model, 1, 5) if name == "memory" else None
    [found] = Engine(PlainDecoder(model, 2, 31)).run([Request([3, 1, 4], max_tokens=11, memory=memory)])
    assert found.ids == uncached(model, [3, 1, 4], 11, memory)
    assert found.reason == "length"
    assert found.num_prompt == 3


@pytest.mark.parametrize("sampling", [Sampling(), WARM, Sampling(temperature=1.3, repetition_penalty=1.2)])
def test_a_batch_is_so_many_singles(sampling: Sampling) -> None:
    requests = [
        Request(prompt, sampling.model_copy(update={"seed": number}), max_tokens=5 + 4 * number % 11)
        for number, prompt in enumerate(some_prompts(7))
    ]
    together = Engine(tiny_decoder(rows=3)).run(requests)
    alone = [Engine(tiny_decoder(rows=1)).run([request])[0] for request in requests]
    assert [one.ids for one in together] == [one.ids for one in alone]
    assert len({tuple(one.ids[:3]) for one in alone}) > 3, (
        "the requests must differ for this to mean anything"
    )


def test_memories_of_unequal_length_stay_with_their_rows() -> None:
    model = tiny_model("memory")
    requests = [
        Request([1, 2], max_tokens=7 + seed, memory=memory_of(model, seed, 3 + 2 * seed) if seed else None)
        for seed in range(4)
    ]
    with torch.no_grad():
        for block in model.stack.blocks:
            block.memory_gate.fill_(2.0)
    together = Engine(PlainDecoder(model, 3, 31)).run(requests)
    alone = [Engine(PlainDecoder(model, 1, 31)).run([request])[0] for request in requests]
    assert [one.ids for one in together] == [one.ids for one in alone]
    assert len({tuple(one.ids[:7]) for one in alone}) > 1


def test_a_stream_is_its_completion() -> None:
    request = Request([3, 1, 4], WARM, max_tokens=13, stops=["zz"])
    pieces = list(Engine(tiny_decoder(), spell).submit(request))
    [whole] = Engine(tiny_decoder(), spell).run([request])
    assert [one for piece in pieces for one in piece.ids] == whole.ids
    assert "".join(piece.text for piece in pieces) == whole.text == spell(whole.ids)


def test_seeds_reproduce_and_differ() -> None:
    def write(seed: int) -> list[int]:
        sampling = Sampling(temperature=1.5, seed=seed)
        return Engine(tiny_decoder()).run([Request([3, 1, 4], sampling, max_tokens=13)])[0].ids

    assert write(1) == write(1)
    assert len({tuple(write(seed)) for seed in range(5)}) == 5


def test_a_prompt_in_parts_is_the_prompt() -> None:
    prompt = some_prompts(1)[0] * 9
    results = [Engine(tiny_decoder(), chunk=chunk).run([Request(prompt)])[0] for chunk in (2, 7, 256)]
    assert len({tuple(one.ids) for one in results}) == 1
    assert len(results[0].ids) == 53 - len(prompt), "all the room there is"


def test_vectors_in_place_of_ids() -> None:
    model, prompt = tiny_model(), [3, 1, 4]
    vectors = model.embed(torch.tensor([prompt]))[0].detach()
    found = Engine(PlainDecoder(model, 2, 31)).run([Request(one, max_tokens=7) for one in (vectors, prompt)])
    assert found[0].ids == found[1].ids


def test_log_probabilities_are_the_models_own() -> None:
    model, prompt = tiny_model(), [3, 1, 4]
    request = Request(prompt, WARM.model_copy(update={"repetition_penalty": 1.5}), 7, num_alternatives=3)
    [found] = Engine(PlainDecoder(model, 2, 31)).run([request])
    ids = torch.tensor([prompt + found.ids])
    logprobs = model.logits(model(model.embed(ids)))[0].log_softmax(-1)[2:-1]
    wanted = logprobs.gather(1, ids[0, 3:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(found.logprobs).double(), wanted, atol=1e-5, rtol=0)
    best = logprobs.topk(3).indices.tolist()
    assert [[one for one, _ in choice.alternatives] for choice in found.choices] == best


def test_stop_ids_end_and_are_left_out() -> None:
    [free] = Engine(tiny_decoder()).run([Request([3, 1, 4], max_tokens=13)])
    stop = free.ids[5]
    [found] = Engine(tiny_decoder()).run([Request([3, 1, 4], max_tokens=13, stop_ids={stop})])
    assert found.ids == free.ids[: free.ids.index(stop)]
    assert found.reason == "stop"


def test_stop_strings_are_never_half_emitted() -> None:
    [free] = Engine(tiny_decoder(), spell).run([Request([3, 1, 4], WARM, max_tokens=13)])
    stop = free.text[4:7]
    request = Request([3, 1, 4], WARM, max_tokens=13, stops=[stop, "~"])
    texts = [piece.text for piece in Engine(tiny_decoder(), spell).submit(request)]
    assert "".join(texts) == free.text[: free.text.index(stop)]
    assert all(not "".join(texts[:end]).endswith(stop[:1]) for end in range(len(texts))), texts


@pytest.mark.parametrize("sampling", [Sampling(), WARM, Sampling(temperature=0.7, repetition_penalty=1.1)])
def test_guesses_change_nothing_but_the_number_of_steps(sampling: Sampling) -> None:
    requests = [Request(prompt * 3, sampling, max_tokens=23) for prompt in some_prompts(4)]
    plain = Engine(tiny_decoder(rows=2)).run(requests)
    guessed = Engine(tiny_decoder(rows=2)).run([dataclasses.replace(one, lookup=5) for one in requests])
    assert [one.ids for one in plain] == [one.ids for one in guessed]
    if sampling.temperature == 0:
        assert sum(one.num_accepted for one in guessed) > 5


def test_cancelling_frees_the_row_and_leaves_the_others_alone() -> None:
    engine = Engine(tiny_decoder(rows=2), spell)
    prompts = some_prompts(3)
    doomed, kept, waiting = (engine.submit(Request(prompt, WARM, max_tokens=17)) for prompt in prompts)
    next(doomed)
    assert (engine.num_active, engine.num_waiting) == (2, 1)
    doomed.cancel()
    assert (engine.num_active, engine.num_waiting) == (1, 1)
    assert doomed.result().reason == "cancelled"
    results = [kept.result(), waiting.result()]
    alone = [Engine(tiny_decoder(rows=1)).run([Request(one, WARM, max_tokens=17)])[0] for one in prompts[1:]]
    assert [one.ids for one in results] == [one.ids for one in alone]
    assert engine.num_active == 0


def test_a_dropped_or_left_stream_is_cancelled() -> None:
    engine = Engine(tiny_decoder(rows=2))
    with engine.submit(Request([1, 2])) as left:
        next(left)
    assert engine.num_active == 0
    dropped = engine.submit(Request([1, 2]))
    next(dropped)
    del dropped
    gc.collect()
    assert engine.num_active == 0


def test_threads_share_one_engine() -> None:
    engine = Engine(tiny_decoder(rows=3))
    requests = [Request(prompt, WARM, max_tokens=19) for prompt in some_prompts(7)]
    found: dict[int, list[int]] = {}

    def work(number: int) -> None:
        found[number] = engine.submit(requests[number]).result().ids

    threads = [threading.Thread(target=work, args=(number,)) for number in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = [Engine(tiny_decoder(rows=1)).run([request])[0].ids for request in requests]
    assert [found[number] for number in range(7)] == alone


def test_an_error_reaches_all_who_wait_and_hangs_nobody() -> None:
    class Broken(PlainDecoder):
        def advance(self, feeds: object) -> list:
            raise MemoryError("no room")

    engine = Engine(Broken(tiny_model(), 2, 31))
    first, second = engine.submit(Request([1])), engine.submit(Request([2]))
    for stream in (first, second):
        with pytest.raises(MemoryError, match="no room"):
            stream.result()
    assert engine.num_active == 0


class _Unruly:
    is_finished = False

    def allowed(self) -> torch.Tensor:
        raise ValueError("lost")

    def accept(self, chosen: int) -> None: ...


def test_an_error_of_one_request_is_its_own() -> None:
    engine = Engine(tiny_decoder())
    good, bad = engine.submit(Request([1], max_tokens=5)), engine.submit(Request([1], guide=_Unruly()))
    with pytest.raises(ValueError, match="lost"):
        bad.result()
    assert len(good.result().ids) == 5


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([1] * 50, max_tokens=11), "prompt of 50 tokens and 11 new ones do not fit a capacity of 53"),
        (Request([1] * 53), "do not fit a capacity of 53"),
        (Request([]), "at least one of each"),
        (Request([1], max_tokens=0), "at least one of each"),
        (Request([V]), f"id {V} of the prompt is not in the vocabulary of {V}"),
        (Request([1], stops=["x"]), "stop strings need text"),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_one_line(request_: Request, message: str) -> None:
    engine = Engine(tiny_decoder())
    with pytest.raises(UsageError, match=message) as caught:
        engine.submit(request_)
    assert "\n" not in str(caught.value)
    assert engine.num_waiting == 0


def test_a_rule_sees_scores_and_what_was_written() -> None:
    """No id twice: what a guide, which sees no scores, could do too; and the least likely id first."""
    seen: list[list[int]] = []

    def rule(scores: torch.Tensor, written: Sequence[int]) -> torch.Tensor:
        seen.append(list(written))
        if not written:
            return -scores
        return scores.index_fill(0, torch.tensor(written), -torch.inf)

    model = tiny_model()
    [found] = Engine(PlainDecoder(model, 2, 31)).run(
        [Request([3, 1, 4], max_tokens=11, logits_processor=rule)]
    )
    assert seen == [found.ids[:count] for count in range(11)]
    assert len(set(found.ids)) == 11
    assert found.ids[0] == int(model.logits(model(model.embed(torch.tensor([[3, 1, 4]]))))[0, -1].argmin())
