"""What a picture brings to mind, and how a caption follows it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from composed_world.knn_captions import KnnCaptions
from composed_world.knn_mixture import KnnMixture
from multimodal_world import build, config, media
from sensorium.generation.multimodal import engine_of, requests
from sensorium.models.checkpoint import load, save
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.prompts import TEMPLATES

CAPTION = TEMPLATES["caption"]
TEXTS = ["a big blue frog", "a red tree"]


class Frozen(nn.Module):
    """An encoder without weights."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim


def of_width(dim: int, **options: str) -> KnnCaptions:
    return KnnCaptions(options, {"image": Frozen(dim)})


def remembered(model: MultimodalLM) -> KnnCaptions:
    return model.extensions["knn_captions"]


def remembering(share: float = 0.999) -> MultimodalLM:
    """It remembers both pictures."""
    sources = config().model_dump()["sources"]
    sources["image"]["frozen"] = True
    model = build(sources=sources, extensions={"knn_captions": {"share": share}})
    own = model.with_tokens(media()).tokens["image"].values.detach().mean(1)
    remembered(model).store(own, TEXTS)
    model.store_extension_options()
    return model


def captions(model: MultimodalLM, asked: list[str], rows: int = 2) -> list[str]:
    engine = engine_of(model, "text", num_rows=rows, capacity=128)
    return [one.text for one in engine.run(requests(model, "text", media(), asked, max_tokens=9))]


def test_odds_are_those_of_the_formula() -> None:
    texts = [([3, 1, 2], 0.5), ([3, 0, 2], 0.2), ([4, 2], 0.3)]
    rule, scores = KnnMixture(texts, 0.6), torch.tensor([0.3, -1.0, 2.0, 0.1, 0.7])
    own = scores.double().softmax(-1).numpy()
    for written, recalled in (
        ([], {3: 0.7, 4: 0.3}),
        ([3], {1: 5 / 7, 0: 2 / 7}),
        ([3, 1], {2: 1.0}),
        ([4], {2: 1.0}),
    ):
        expected = 0.4 * own + 0.6 * np.array([recalled.get(one, 0.0) for one in range(5)])
        np.testing.assert_allclose(rule(scores, written).exp().numpy(), expected, rtol=1e-5)
    for written in ([1], [3, 1, 2], [3, 4]):  # nothing begins like that
        assert rule(scores, written) is scores


def test_weights_are_those_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(2)
    vectors, seen = torch.randn(5, 7, generator=generator) + 3, torch.randn(7, generator=generator) + 3
    memory = of_width(7)
    memory.store(vectors, list("abcde"))
    keys = (vectors - vectors.mean(0)).numpy()
    query = (seen - vectors.mean(0)).numpy()
    cosines = keys @ query / np.linalg.norm(keys, axis=1) / np.linalg.norm(query)
    odds = np.exp(cosines / 0.07)
    expected = sorted(zip(odds / odds.sum(), "abcde", strict=True), reverse=True)
    kept = [one for one in expected if one[0] > 1e-3]
    found = memory(seen, nn.Identity())
    assert [text for text, _ in found] == [text for _, text in kept]
    weights = np.array([one for one, _ in kept])
    np.testing.assert_allclose([weight for _, weight in found], weights / weights.sum(), rtol=1e-4)


class _Named(nn.Module):
    class_names = ("ant, emmet", "koala")

    def classify(self, pooled: Tensor) -> Tensor:
        return torch.tensor([[0.0, math.log(3.0)]])


def test_what_the_encoder_can_name_comes_to_mind_too() -> None:
    memory = of_width(2, names="A {name}.")
    memory.store(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), ["A frog.", "A key."])
    found = dict(memory(torch.tensor([9.0, 0.0]), _Named()))
    assert found == pytest.approx(
        {"A frog.": 1 / 1.85, "A koala.": 0.6375 / 1.85, "An ant.": 0.2125 / 1.85}, rel=1e-5
    )
    assert "An ant." not in dict(memory(torch.tensor([9.0, 0.0]), nn.Identity()))


def test_a_caption_follows_what_its_picture_brings_to_mind_and_no_other_answer_does() -> None:
    model = remembering()
    plain = build(sources=model.config.model_dump()["sources"])
    frog, tree, sound = captions(model, [CAPTION] * 3)
    assert [frog, tree] == TEXTS
    assert sound == captions(plain, [CAPTION] * 3)[2]  # no picture, nothing to recall
    others = ["a big frog", "", "the sun"]
    assert captions(model, others) == captions(plain, others)
    assert captions(model, [CAPTION] * 3, rows=1) == [frog, tree, sound]


def test_what_is_remembered_is_saved(tmp_path) -> None:
    model = remembering()
    loaded = load(save(model, tmp_path / "run"), MultimodalLM)
    assert remembered(loaded).texts == TEXTS
    assert loaded.config.extensions["knn_captions"]["package"] == "composed-world"
    assert captions(loaded, [CAPTION] * 3) == captions(model, [CAPTION] * 3)
    save(model, tmp_path / "small", is_int8=True)
    small = load(tmp_path / "small", MultimodalLM)
    assert captions(small, [CAPTION] * 3)[1] == "a red tree"


def test_what_changes_in_training_cannot_be_recalled() -> None:
    with pytest.raises(ValueError, match=r"set sources\.image\.frozen"):
        build(extensions={"knn_captions": {"share": 0.5}})
