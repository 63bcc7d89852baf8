"""The objective: which rows meet, and how the terms add up."""

import pytest
import torch
from small_jobs import model

from sensorium.core.errors import NotFoundError
from sensorium.core.types import MediaBatch
from sensorium.losses import cross_batch_info_nce, info_nce, sigmoid
from sensorium.training.embedding.criterion import Contrast, objective, shared_rows
from sensorium.training.recipe import LossConfig


def unit(rows: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(rows, 13, generator=torch.Generator().manual_seed(seed)), dim=1
    )


BATCH = MediaBatch(
    torch.arange(7),
    {
        "image": torch.tensor([0, 1, 3, 4, 6]),
        "audio": torch.tensor([1, 2, 3, 6]),
        "speech": torch.tensor([5]),
    },
    groups=torch.tensor([0, 1, 2, 1, 4, 5, 6]),
)
VECTORS = {"image": unit(5, 1), "audio": unit(4, 2), "speech": unit(1, 3)}


def config(*pairs: tuple[str, str, float], kind: str = "info_nce") -> LossConfig:
    return LossConfig.model_validate(
        {"kind": kind, "pairs": [{"a": a, "b": b, "weight": w} for a, b, w in pairs]}
    )


def test_a_term_is_the_loss_over_rows_that_have_both_with_their_groups() -> None:
    built = model()
    found = objective(built, VECTORS, BATCH, config(("image", "audio", 0.7)))
    a, b = VECTORS["image"][[1, 2, 4]], VECTORS["audio"][[0, 2, 3]]
    expected = info_nce(a, b, built.logit_scale, positives=torch.tensor([1, 1, 6]))
    assert torch.allclose(found.terms["image-audio"], expected)
    assert torch.allclose(found.total, 0.7 * expected)


def test_the_sigmoid_is_given_the_offset() -> None:
    built = model(logit_bias_init=-4.0)
    found = objective(built, VECTORS, BATCH, config(("audio", "image", 1.0), kind="sigmoid"))
    a, b = VECTORS["audio"][[0, 2, 3]], VECTORS["image"][[1, 2, 4]]
    expected = sigmoid(a, b, built.logit_scale, built.logit_bias, positives=torch.tensor([1, 1, 6]))
    assert torch.allclose(found.total, expected)
    found.total.backward()
    assert built.logit_bias.grad is not None


def test_pairs_without_two_shared_rows_are_left_out_but_can_be_differentiated() -> None:
    built = model()
    found = objective(built, VECTORS, BATCH, config(("image", "speech", 1.0), ("image", "text", 1.0)))
    assert not found.terms
    found.total.backward()
    assert found.total.item() == 0


def test_remembered_rows_are_compared_like_rows_of_the_batch_but_draw_nothing() -> None:
    built, remembering = model(), Contrast(config(("image", "text", 1.0)).model_copy(update={"memory": 8}))
    everyone = torch.arange(5)
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for step in range(4):
        groups = torch.tensor([0, 1, 2, 3, 4]) + 3 * step
        batch = MediaBatch(everyone, {"image": everyone, "text": everyone}, groups=groups)
        a, b = unit(5, 2 * step).requires_grad_(), unit(5, 2 * step + 1).requires_grad_()
        found = remembering(built, {"image": a, "text": b}, batch)
        seen.insert(0, (a, b, groups))
        known_a, known_b, of = (torch.cat(parts)[5 : 5 + 8] for parts in zip(*seen, strict=True))
        expected = cross_batch_info_nce(a, b, built.logit_scale, groups, known_a, known_b, of)
        assert torch.allclose(found.total, expected)
        vectors = [one for row in seen for one in row[:2]]
        drawn = torch.autograd.grad(found.total, vectors, allow_unused=True)
        assert [grad is not None for grad in drawn] == [True, True] + [False] * (2 * step)
    assert {len(rows) for rows in remembering.memory.values()} == {8}


def test_smoothing_needs_no_memory() -> None:
    built, smooth = model(), config(("image", "audio", 1.0)).model_copy(update={"smoothing": 0.2})
    a, b = VECTORS["image"][[1, 2, 4]], VECTORS["audio"][[0, 2, 3]]
    groups, memory = torch.tensor([1, 1, 6]), dict[str, torch.Tensor]()
    expected = cross_batch_info_nce(a, b, built.logit_scale, groups, a[:0], b[:0], groups[:0], smoothing=0.2)
    assert torch.allclose(objective(built, VECTORS, BATCH, smooth, memory).total, expected)
    assert {len(rows) for rows in memory.values()} == {0}


def test_memory_is_refused_where_it_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="memory and smoothing are of kind 'info_nce'"):
        LossConfig.model_validate({"kind": "sigmoid", "memory": 3, "pairs": [{"a": "image", "b": "text"}]})


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'info_nce'"):
        objective(model(), VECTORS, BATCH, config(("image", "audio", 1.0), kind="info_nse"))


def test_shared_rows_of_strangers_are_none() -> None:
    a, b, rows = shared_rows(torch.tensor([1, 4]), torch.tensor([0, 2]))
    assert len(a) == len(b) == len(rows) == 0
