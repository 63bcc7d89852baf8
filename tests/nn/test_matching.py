"""Phrases and places: late interaction by its definition, windows by brute force, assignments by search."""

import itertools

import numpy as np
import pytest
import torch

from sensorium.core.errors import UsageError
from sensorium.nn.matching import (
    assign,
    best_window,
    heat_maps,
    late_interaction,
    patch_log_probs,
    phrase_vectors,
    region_log_probs,
    sinkhorn,
)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1
    )


PLACES, WORDS = unit(3, 7, 5, seed=1), unit(2, 11, 5, seed=2)
PLACES_MASK = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
WORDS_MASK = torch.arange(11) < torch.tensor([11, 3])[:, None]


def test_late_interaction_is_its_definition() -> None:
    by_words, by_places = late_interaction(PLACES, WORDS, PLACES_MASK, WORDS_MASK)
    for b, t in itertools.product(range(3), range(2)):
        products = PLACES[b, PLACES_MASK[b]] @ WORDS[t, WORDS_MASK[t]].T
        assert torch.allclose(by_words[b, t], products.amax(dim=0).mean())
        assert torch.allclose(by_places[b, t], products.amax(dim=1).mean())


@pytest.mark.parametrize("junk", [99.0, float("nan"), float("-inf")])
def test_what_is_masked_changes_no_bit(junk: float) -> None:
    places = PLACES.masked_fill(~PLACES_MASK[..., None], junk)
    words = WORDS.masked_fill(~WORDS_MASK[..., None], junk)
    expected = late_interaction(PLACES, WORDS, PLACES_MASK, WORDS_MASK)
    for found, wanted in zip(late_interaction(places, words, PLACES_MASK, WORDS_MASK), expected, strict=True):
        assert torch.equal(found, wanted)


def test_a_phrase_is_the_mean_of_its_words_and_its_heat_the_mean_of_theirs() -> None:
    span = torch.zeros(2, 11, dtype=torch.bool)
    span[0, 2:5] = span[1, 1] = True
    assert torch.allclose(phrase_vectors(WORDS, span)[0], WORDS[0, 2:5].mean(dim=0))
    heat = heat_maps(PLACES[:2], WORDS, span)
    assert torch.allclose(heat[0], (PLACES[0] @ WORDS[0, 2:5].T).mean(dim=1), atol=1e-6)
    assert torch.allclose(heat[1], PLACES[1] @ WORDS[1, 1], atol=1e-6)
    with pytest.raises(UsageError, match="covers no token"):
        phrase_vectors(WORDS, torch.zeros_like(span))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_best_window_is_the_best_of_all(power: float) -> None:
    heat = torch.randn(5, 7, generator=torch.Generator().manual_seed(3))
    rows, columns = itertools.combinations(range(6), 2), list(itertools.combinations(range(8), 2))
    scores = {
        (top, left, bottom, right): heat[top:bottom, left:right].sum().item()
        / ((bottom - top) * (right - left)) ** power
        for (top, bottom), (left, right) in itertools.product(rows, columns)
    }
    found = best_window(heat, power=power)
    best = max(scores, key=scores.__getitem__)
    assert (found.top, found.left, found.bottom, found.right) == best
    assert found.score == pytest.approx(scores[best], rel=1e-5)


def test_a_window_moves_with_the_thing() -> None:
    heat = torch.full((11, 13), -1.0)
    heat[3:6, 2:7] = 2.0
    found = best_window(heat)
    assert (found.top, found.left, found.bottom, found.right) == (3, 2, 6, 7)
    moved = best_window(heat.roll((2, 4), dims=(0, 1)))
    assert (moved.top, moved.left, moved.bottom, moved.right) == (5, 6, 8, 11)
    assert best_window(heat, power=1.0).score == 2.0


def test_a_phrase_is_named_where_all_its_words_are_likely() -> None:
    span = torch.zeros(2, 11, dtype=torch.bool)
    span[0, 2:5] = span[1, 1] = True
    found = patch_log_probs(PLACES[:2], WORDS, span)
    for phrase, words in enumerate(([2, 3, 4], [1])):
        chances = torch.sigmoid(PLACES[phrase] @ WORDS[phrase, words].T)
        assert torch.allclose(found[phrase].exp(), chances.prod(dim=1) ** (1 / len(words)), atol=1e-6)
    assert torch.equal(
        patch_log_probs(PLACES[:2], WORDS.masked_fill(~span[..., None], torch.nan), span), found
    )


def test_a_part_of_one_place_is_that_place_and_shares_of_places_add_up() -> None:
    span = torch.arange(11) < torch.tensor([[3], [2]])
    whole = region_log_probs(PLACES[0], WORDS[0, :3], 5 * torch.eye(7))
    assert torch.allclose(whole, patch_log_probs(PLACES[:2], WORDS, span)[0], atol=1e-6)
    parts = torch.rand(2, 7, generator=torch.Generator().manual_seed(4))
    halves = region_log_probs(PLACES[0].repeat(2, 1), WORDS[0, :3], parts.repeat(1, 2) / 2)
    assert torch.allclose(halves, region_log_probs(PLACES[0], WORDS[0, :3], parts), atol=1e-6)


def test_words_of_two_things_do_not_make_a_third() -> None:
    """Red, frog, crab: a red crab and a green frog are two parts, neither of which is the red frog."""
    places = torch.tensor([[9.0, -9, 9], [-9, 9, -9], [-9, -9, -9]])
    words = torch.eye(3)[:2]
    found = region_log_probs(places, words, torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 1]]))
    assert found[2] > -1.5 > -4 > found[:2].max()


def searched(scores: torch.Tensor, absent: torch.Tensor) -> float:
    """The greatest sum over all one-to-one assignments."""
    num_phrases, num_boxes = scores.shape
    choices = itertools.product(range(-1, num_boxes), repeat=num_phrases)
    return max(
        sum(absent[p].item() if k < 0 else scores[p, k].item() for p, k in enumerate(choice))
        for choice in choices
        if len([k for k in choice if k >= 0]) == len({k for k in choice if k >= 0})
    )


@pytest.mark.parametrize(("num_phrases", "num_boxes"), [(3, 5), (5, 3), (1, 1), (4, 0)])
def test_assignments_are_the_best_there_are(num_phrases: int, num_boxes: int) -> None:
    for seed in range(5):
        chance = torch.Generator().manual_seed(seed)
        scores, absent = (
            torch.randn(num_phrases, num_boxes, generator=chance),
            torch.randn(num_phrases, generator=chance),
        )
        chosen = assign(scores, absent).tolist()
        taken = [k for k in chosen if k >= 0]
        assert len(taken) == len(set(taken))
        reached = sum(absent[p].item() if k < 0 else scores[p, k].item() for p, k in enumerate(chosen))
        assert reached == pytest.approx(searched(scores, absent), abs=1e-5)


def test_sinkhorn_shares_out_and_nears_the_assignment_as_it_cools() -> None:
    chance = torch.Generator().manual_seed(7)
    scores, absent = torch.rand(5, 7, generator=chance), torch.full((5,), 0.2)
    shares = sinkhorn(scores, absent, temperature=0.5, steps=200)
    assert torch.allclose(shares.sum(dim=1), torch.ones(5), atol=1e-4)
    assert (shares[:, :7].sum(dim=0) <= 1 + 1e-4).all()
    cold = sinkhorn(scores, absent, temperature=0.005, steps=2000).argmax(dim=1)
    boxes = cold[cold < 7].tolist()
    assert len(set(boxes)) == len(boxes)
    reached = torch.cat([scores, absent[:, None]], dim=1).gather(1, cold[:, None]).sum()
    assert float(reached) == pytest.approx(searched(scores, absent), abs=1e-5)


def test_two_phrases_never_share_a_box_and_the_weaker_gives_way() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.75, 0.0]])
    shares = sinkhorn(scores, torch.tensor([0.05, 0.05, 0.05]), temperature=0.02, steps=500)
    assert shares.argmax(dim=1).tolist() == [0, 1, 2]
    with pytest.raises(UsageError, match="temperature"):
        sinkhorn(scores, torch.zeros(3), temperature=0.0)


def test_permuted_phrases_give_permuted_shares() -> None:
    scores, absent = torch.rand(5, 3, generator=torch.Generator().manual_seed(8)), torch.linspace(0, 1, 5)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.allclose(sinkhorn(scores, absent)[order], sinkhorn(scores[order], absent[order]), atol=1e-6)
    assert np.allclose(sinkhorn(scores, absent).sum(dim=1), 1, atol=1e-3)
