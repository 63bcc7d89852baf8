"""What the engine writes for a multimodal model is what the model itself would write, id by id."""

import pytest
import torch

from multimodal_world import build, media
from sensorium.generation.multimodal import engine_of, requests
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.sequences import DecoderBatch, TokenSequence, padded

ASKED = ["a big frog", "", "the sun"]


def by_hand(model: MultimodalLM, to: str, row: int, length: int) -> list[int]:
    """Greedy ids, everything computed anew at each step."""
    writer = model.decoder(to)
    prompt, written = writer.prompt_ids(ASKED[row]), []
    for _ in range(length):
        batch = media()
        lesson = DecoderBatch(batch, to, padded([TokenSequence([*prompt, *written], [0], row)]))
        scores = model(lesson).hidden[-1] @ writer.model.output_matrix.T
        written.append(int(scores.argmax()))
        if written[-1] in writer.end_ids:
            return written[:-1]
    return written


@pytest.mark.parametrize("mode", ["memory", "prefix"])
@pytest.mark.parametrize("to", ["text", "image"])
@torch.no_grad()
def test_the_engine_writes_what_the_model_would(mode: str, to: str) -> None:
    model = build(mode=mode)
    engine = engine_of(model, to, num_rows=2, capacity=128)
    batch = media()
    done = engine.run(requests(model, to, batch, ASKED, max_tokens=7))
    assert [one.ids for one in done] == [by_hand(model, to, row, 7) for row in range(3)]
    assert len({tuple(one.ids) for one in done}) > 1  # rows differ, else the law says little
