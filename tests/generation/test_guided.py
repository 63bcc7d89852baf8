"""Guidance: scores go on from what a decoder says without its memory, by a scale."""

import pytest
import torch
from tiny_decoders import memory_of, tiny_decoder, tiny_model

from multimodal_world import build, config, media
from sensorium.core.errors import UsageError
from sensorium.core.types import MediaBatch
from sensorium.generation import Completion, Engine, Feed, GuidedDecoder, PlainDecoder, Request, Sampling
from sensorium.generation.multimodal import engine_of, requests
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.sequences import DecoderBatch, TokenSequence, padded

ASKED = ["a big frog", "", "the sun"]
PICTURE = {"image": {"num_codes": 19, "width": 16, "num_heads": 2, "depth": 1}}


def written(model: MultimodalLM, batch: MediaBatch, rows: int) -> list[Completion]:
    engine = engine_of(model, "image", num_rows=rows, capacity=64)
    asked = requests(model, "image", batch, ASKED, sampling=Sampling(temperature=0.8, seed=4), max_tokens=9)
    return engine.run(asked)


def test_scores_are_those_of_both_by_the_formula() -> None:
    model, memory = tiny_model("memory"), memory_of(tiny_model("memory"), 1, 4)
    guided = GuidedDecoder(PlainDecoder(model, 4, 53), None, 2.5)
    plain = PlainDecoder(model, 2, 53)
    for decoder, rows in ((guided, [memory, None]), (plain, [memory, None])):
        for row, one in enumerate(rows):
            decoder.clear(row, one)
    feeds = [Feed(0, 0, [3, 5], 2), Feed(1, 0, [3, 5], 2)]
    (with_memory, without), found = plain.advance(feeds), guided.advance(feeds)
    torch.testing.assert_close(found[0], without + 2.5 * (with_memory - without))
    torch.testing.assert_close(found[1], without)  # nothing to follow
    assert (guided.num_rows, guided.capacity, guided.vocab_size) == (2, 53, plain.vocab_size)
    guided.copy([0, 0])
    torch.testing.assert_close(guided.advance([Feed(0, 2, [7])])[0], _next(model, memory, [3, 5, 7]))
    with pytest.raises(UsageError, match="3 rows; expected an even number"):
        GuidedDecoder(tiny_decoder("memory", rows=3), None, 2.0)


def _next(model, memory, ids) -> torch.Tensor:
    scores = []
    for one in (memory, None):
        decoder = PlainDecoder(model, 1, 53)
        decoder.clear(0, one)
        scores.append(decoder.advance([Feed(0, 0, ids)])[0])
    return scores[1] + 2.5 * (scores[0] - scores[1])


def test_a_guided_engine_writes_each_row_as_if_alone() -> None:
    model = tiny_model("memory")
    asked = [
        Request([1, 2], max_tokens=6, memory=memory_of(model, seed, 3 + seed), sampling=Sampling(seed=seed))
        for seed in range(3)
    ]
    together = Engine(GuidedDecoder(PlainDecoder(model, 4, 32), None, 3.0)).run(asked)
    alone = [Engine(GuidedDecoder(PlainDecoder(model, 2, 32), None, 3.0)).run([one])[0] for one in asked]
    assert [one.ids for one in together] == [one.ids for one in alone]
    plain = Engine(PlainDecoder(model, 3, 32)).run(asked)
    as_learned = Engine(GuidedDecoder(PlainDecoder(model, 4, 32), None, 1.0)).run(asked)
    assert [one.ids for one in as_learned] == [one.ids for one in plain]
    assert [one.ids for one in together] != [one.ids for one in plain]  # it does something


@torch.no_grad()
def test_a_model_follows_its_memory_as_its_writer_says() -> None:
    guided = {"image": {**PICTURE["image"], "guidance": 3.0}}
    model, plain = build(decoders=guided, modality_dropout=0.1), build(decoders=PICTURE)
    found = written(model, media(), 2)
    assert [one.ids for one in found] == [one.ids for one in written(model, media(), 3)]
    assert [one.ids for one in found] != [one.ids for one in written(plain, media(), 3)]
    hidden = MediaBatch(media().rows, {})
    for row in range(3):  # by hand: the first code, with the media and with all of them hidden
        prompt = padded([TokenSequence(model.decoder("image").prompt_ids(), [0], row)])
        matrix = model.decoder("image").model.output_matrix
        batches = [DecoderBatch(one, "image", prompt) for one in (media(), hidden)]
        of_both = [model(one).hidden[-1] @ matrix.T for one in batches]
        odds = (of_both[1] + 3 * (of_both[0] - of_both[1])).log_softmax(0)
        assert found[row].logprobs[0] == pytest.approx(float(odds[found[row].ids[0]]), abs=1e-5)


def test_guidance_needs_memories_that_were_hidden() -> None:
    with pytest.raises(ValueError, match=r"decoders\.image\.guidance needs .* set modality_dropout"):
        config(decoders={"image": {**PICTURE["image"], "guidance": 2.0}})
