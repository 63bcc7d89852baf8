"""Words and images: the closed form, each word for itself, padding counts for nothing, and it learns."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from sensorium.core.errors import UsageError
from sensorium.losses.multiple_instance import multiple_instance_bce, unique_words


def inputs() -> tuple[torch.Tensor, ...]:
    chance = torch.Generator().manual_seed(3)
    places, words = torch.randn(3, 7, 5, generator=chance), torch.randn(11, 5, generator=chance)
    said = torch.rand(3, 11, generator=chance) < 0.4
    return places, words, said, torch.arange(7) < torch.tensor([7, 4, 1])[:, None]


def test_the_loss_is_its_closed_form() -> None:
    places, words, said, mask = inputs()
    expected = 0.0
    for i, u in itertools.product(range(3), range(11)):
        odds = np.mean([math.exp(float(place @ words[u])) for place in places[i, mask[i]]])
        expected -= math.log(odds / (1 + odds) if said[i, u] else 1 / (1 + odds)) / 3
    assert multiple_instance_bce(places, words, said, mask).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("junk", [99.0, float("nan"), float("-inf")])
def test_masked_places_change_nothing(junk: float) -> None:
    places, words, said, mask = inputs()
    spoiled = places.masked_fill(~mask[..., None], junk).requires_grad_()
    loss = multiple_instance_bce(spoiled, words, said, mask)
    assert torch.equal(loss, multiple_instance_bce(places, words, said, mask))
    loss.backward()
    assert not spoiled.grad[~mask].any()


def test_a_word_learns_the_same_whatever_others_are_said() -> None:
    places, words, said, mask = inputs()
    gradients = []
    for kept in (slice(0, 11), slice(0, 2)):
        own = words[kept].clone().requires_grad_()
        multiple_instance_bce(places, own, said[:, kept], mask).backward()
        gradients.append(own.grad[:2])
    assert torch.allclose(*gradients, atol=1e-6)


def test_an_image_of_padding_alone_is_refused() -> None:
    places, words, said, mask = inputs()
    with pytest.raises(UsageError, match="no real patch"):
        multiple_instance_bce(places, words, said, mask & (torch.arange(3) != 1)[:, None])


def test_distinct_words_stand_where_they_are_said() -> None:
    ids = torch.randint(5, 17, (7, 11), generator=torch.Generator().manual_seed(5))
    mask = torch.arange(11) < torch.tensor([11, 2, 7, 5, 3, 1, 10])[:, None]
    where, said = unique_words(ids.masked_fill(~mask, -1), mask)
    kinds = ids.flatten()[where].tolist()
    assert kinds == sorted({kind for row, real in zip(ids, mask, strict=True) for kind in row[real].tolist()})
    for text, column in itertools.product(range(7), range(len(kinds))):
        assert bool(said[text, column]) == (kinds[column] in ids[text, mask[text]].tolist())


def test_each_word_finds_its_places_from_what_is_said_of_whole_images() -> None:
    """Images of two things and background; a thing is a colour and a kind, and no place is ever told."""
    pairs = torch.tensor(list(itertools.combinations(range(6), 2)))
    chance = torch.Generator().manual_seed(7)
    texts = torch.cat([pairs, torch.randint(6, 10, pairs.shape, generator=chance)], dim=1)
    things = functional.one_hot(texts, 10).float().unflatten(1, (2, 2)).sum(dim=1)
    places = torch.cat([things, torch.zeros(len(pairs), 3, 10)], dim=1)
    said, real = functional.one_hot(texts, 10).any(dim=1), torch.ones(len(pairs), 5, dtype=torch.bool)
    weight, words = (0.1 * torch.randn(10, 11, generator=chance) for _ in range(2))
    words[:, 10] = -3.0  # words start rare: else background alone can carry how often each is said
    parts = [weight.requires_grad_(), words.requires_grad_()]
    optimizer = torch.optim.Adam(parts, lr=0.05)
    for _ in range(100):
        seen = places @ weight + torch.eye(11)[10]
        optimizer.zero_grad()
        multiple_instance_bce(seen, words, said, real).backward()
        optimizer.step()
    best = torch.einsum("bme,bke->bkm", seen, words[texts]).argmax(dim=2)
    fits = [own[at, text] for own, at, text in zip(places, best, texts, strict=True)]
    assert torch.stack(fits).mean() > 0.95
