"""FILIP's loss: tiled = plain with its gradients, padding changes nothing, and it learns."""

import pytest
import torch
from torch.nn import functional

from sensorium.core.errors import UsageError
from sensorium.losses.late_interaction import filip, similarities
from sensorium.nn.matching import late_interaction


def unit(*shape: int, seed: int) -> torch.Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(made, dim=-1)


def inputs() -> tuple[torch.Tensor, ...]:
    places_mask = torch.arange(5) < torch.tensor([5, 3, 5, 1, 4, 5, 2])[:, None]
    words_mask = torch.arange(11) < torch.tensor([11, 2, 7, 5, 3, 1, 10])[:, None]
    return unit(7, 5, 13, seed=1), unit(7, 11, 13, seed=2), places_mask, words_mask


def plain(places: torch.Tensor, words: torch.Tensor, *masks: torch.Tensor) -> torch.Tensor:
    by_words, by_places = late_interaction(places, words, *masks)
    target = torch.arange(len(places))
    return functional.cross_entropy(9.0 * by_places, target) + functional.cross_entropy(
        9.0 * by_words.T, target
    )


@pytest.mark.parametrize("tile", [1, 3, 7, 50])
def test_tiles_change_neither_value_nor_gradient(tile: int) -> None:
    places, words, *masks = inputs()
    grads = []
    for loss in (lambda *x: filip(*x, 9.0, tile=tile), plain):
        a, b = places.clone().requires_grad_(), words.clone().requires_grad_()
        value = loss(a, b, *masks)
        value.backward()
        grads.append((value.detach(), a.grad, b.grad))
    for found, expected in zip(*grads, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("junk", [7.0, float("nan")])
def test_masked_content_changes_nothing(junk: float) -> None:
    places, words, places_mask, words_mask = inputs()
    expected = filip(places, words, places_mask, words_mask, 9.0)
    places = places.masked_fill(~places_mask[..., None], junk)
    words = words.masked_fill(~words_mask[..., None], junk)
    assert torch.equal(filip(places, words, places_mask, words_mask, 9.0), expected)


def test_as_many_texts_as_images_are_needed() -> None:
    places, words, places_mask, words_mask = inputs()
    with pytest.raises(UsageError, match="7 images, 6 texts"):
        filip(places, words[:6], places_mask, words_mask[:6], 9.0)
    assert similarities(places, words[:6], places_mask, words_mask[:6])[0].shape == (7, 6)


def test_it_draws_matched_pairs_together() -> None:
    places, words, places_mask, words_mask = inputs()
    a, b = places.clone().requires_grad_(), words.clone().requires_grad_()
    optimizer = torch.optim.Adam([a, b], lr=0.05)
    for _ in range(60):
        parts = functional.normalize(a, dim=-1), functional.normalize(b, dim=-1)
        loss = filip(*parts, places_mask, words_mask, 9.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    by_words, by_places = similarities(*parts, places_mask, words_mask)
    assert by_places.argmax(dim=1).tolist() == list(range(7))
    assert by_words.argmax(dim=0).tolist() == list(range(7))
