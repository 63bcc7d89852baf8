"""Retrieval metrics equal CLIP_benchmark's rules written plainly."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import UsageError
from sensorium.evals import chance_at, evaluate_retrieval, recall_at
from sensorium.evals.retrieval import best_ranks, ranks_of


def plain_recall(scores: np.ndarray, positives: np.ndarray, k: int) -> float:
    """For each query sort the items, lower first where equal, and look for a positive among the first k."""
    hits = []
    for row, wanted in zip(scores, positives, strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], i))
        hits.append(any(wanted[i] for i in order[:k]))
    return sum(hits) / len(hits)


def top_k_recall(scores: np.ndarray, positives: np.ndarray, k: int) -> float:
    """True positives among topk over all positives, counted as a hit above 0: right where no scores tie."""
    found = torch.tensor(scores).topk(k, dim=1).indices
    recall = torch.tensor(positives).gather(1, found).sum(1) / torch.tensor(positives).sum(1)
    return (recall > 0).float().mean().item()


@settings(deadline=None, max_examples=60)
@given(
    num=st.integers(1, 13),
    items=st.integers(1, 17),
    grain=st.sampled_from([1, 3, 10**6]),
    seed=st.integers(0, 999),
)
def test_recall_with_ties_and_many_positives(num: int, items: int, grain: int, seed: int) -> None:
    stream = np.random.default_rng(seed)
    scores = stream.integers(-grain, grain + 1, (num, items)) / grain
    positives = stream.random((num, items)) < 0.3
    positives[np.arange(num), stream.integers(0, items, num)] = True
    for k, value in recall_at(scores, positives, [1, 2, 5, 10, 100]).items():
        assert value == pytest.approx(plain_recall(scores, positives, k))
        if len(np.unique(scores)) == scores.size and k <= items:
            assert value == pytest.approx(top_k_recall(scores, positives, k))


def test_five_captions_an_image_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(0)
    images = stream.standard_normal((31, 7)).astype(np.float32)
    groups = np.repeat(np.arange(31), 5)
    texts = (images[groups] + 1.5 * stream.standard_normal((155, 7))).astype(np.float32)
    for queries, items, of_queries, of_items in (
        (images, texts, np.arange(31), groups),
        (texts, images, groups, np.arange(31)),
    ):
        result = evaluate_retrieval(queries, items, of_queries, of_items)
        positives = of_queries[:, None] == of_items
        for k in (1, 5, 10):
            expected = plain_recall(queries @ items.T, positives, k)
            assert result.recall[k].mean == pytest.approx(expected)
            assert result.recall[k].low <= expected <= result.recall[k].high
        assert result.median_rank == np.median(ranks_of(queries @ items.T, positives) + 1)
        whole = best_ranks(queries, items, of_queries, of_items)
        monkeypatch.setattr("sensorium.evals.retrieval._SCORES_AT_ONCE", 3 * len(items))
        assert np.array_equal(whole, best_ranks(queries, items, of_queries, of_items))
        monkeypatch.undo()


def test_all_scores_equal_is_not_perfect_recall() -> None:
    """A collapsed model gives equal vectors; the lower item first then makes recall that of a fixed order."""
    same = np.ones((10, 3), np.float32)
    result = evaluate_retrieval(same, same, np.arange(10), np.arange(10))
    assert result.recall[1].mean == 0.1
    assert result.median_rank == 5.5


@pytest.mark.parametrize("num_positives", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_chance_by_counting_all_draws(num_positives: int, k: int) -> None:
    draws = list(combinations(range(7), min(k, 7)))
    expected = sum(any(i < num_positives for i in draw) for draw in draws) / len(draws)
    assert chance_at(np.array([num_positives]), 7, k) == pytest.approx(expected)


def test_chance_of_a_sure_draw() -> None:
    assert chance_at(np.array([3, 1]), 3, 5) == 1
    assert chance_at(np.array([1]), 1000, 10) == pytest.approx(0.01)


def test_queries_without_a_positive_are_left_out_and_counted() -> None:
    vectors = np.eye(5, dtype=np.float32)
    result = evaluate_retrieval(vectors, vectors[:3], np.arange(5), np.arange(3))
    assert (result.num_queries, result.num_items, result.recall[1].mean) == (3, 3, 1.0)
    with pytest.raises(UsageError, match="none of 5 queries"):
        evaluate_retrieval(vectors, vectors, np.arange(5), np.arange(5) + 7)


def test_scores_that_are_not_finite_are_refused() -> None:
    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(UsageError, match="not finite"):
        evaluate_retrieval(vectors * np.float32("nan"), vectors, np.arange(3), np.arange(3))
