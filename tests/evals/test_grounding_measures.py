"""Measures of grounding: closed forms, both rules for several boxes, duplicates, baselines."""

import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.evals.grounding import Grounded, auroc, baselines, grounding_metrics, overlaps

A, B, FAR = [0.0, 0, 10, 10], [20.0, 0, 30, 10], [80.0, 80, 90, 90]


def grounded(boxes: list[list[float]], truth: list[list[float]], score: float = 1.0) -> Grounded:
    shaped = (np.array(part, dtype=np.float64).reshape(-1, 4) for part in (boxes, truth))
    proposed, true = shaped
    return Grounded(proposed, score, true, 101, 97)


def test_recall_counts_a_hit_among_the_first_k() -> None:
    phrases = [
        grounded([A], [A]),
        grounded([FAR, A], [A]),
        grounded([FAR] * 7 + [A], [A]),
        grounded([FAR], [A]),
    ]
    found = grounding_metrics(phrases)
    assert (found["R@1"], found["R@5"], found["R@10"]) == (0.25, 0.5, 0.75)
    assert found["accuracy"] == found["R@1"]
    assert found["phrases"] == 4


def test_any_box_and_merged_box_are_two_rules() -> None:
    one_of_two = grounding_metrics([grounded([A], [A, B])])
    around = grounding_metrics([grounded([[0.0, 0, 30, 10]], [A, B])])
    assert (one_of_two["R@1"], one_of_two["merged R@1"]) == (1.0, 0.0)
    assert (around["R@1"], around["merged R@1"]) == (0.0, 1.0)
    assert "RefCOCO" not in around


def test_half_an_overlap_is_a_hit_of_recall_and_none_of_refcoco() -> None:
    found = grounding_metrics([grounded([[0.0, 0, 10, 5]], [A])])
    assert (found["R@1"], found["RefCOCO"]) == (1.0, 0.0)


def test_the_pointing_game_looks_at_the_point_alone() -> None:
    small = [4.0, 4, 5, 5]
    found = grounding_metrics([grounded([small], [A])])
    assert (found["R@1"], found["pointing"]) == (0.0, 1.0)
    aside = Grounded(np.array([A]), 1.0, np.array([A]), 101, 97, point=(50.0, 50.0))
    assert grounding_metrics([aside])["pointing"] == 0.0


def test_equal_phrases_count_each() -> None:
    right, wrong = grounded([A], [A]), grounded([FAR], [A])
    assert grounding_metrics([right, wrong, wrong, wrong])["R@1"] == 0.25


def test_absent_phrases_are_told_apart_by_score_alone() -> None:
    phrases = [
        grounded([A], [A], 0.9),
        grounded([FAR], [A], 0.4),
        grounded([A], [], 0.4),
        grounded([A], [], 0.1),
    ]
    found = grounding_metrics(phrases)
    assert found["absent AUROC"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert (found["phrases"], found["absent"]) == (2, 2)
    assert "R@1" not in grounding_metrics([grounded([A], [])])


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(3)
    above, below = rng.integers(0, 7, 31).astype(float), rng.integers(0, 5, 23).astype(float)
    pairs = (above[:, None] > below).mean() + 0.5 * (above[:, None] == below).mean()
    assert auroc(above.tolist(), below.tolist()) == pytest.approx(pairs)


def test_phrases_without_proposals_are_misses() -> None:
    found = grounding_metrics([grounded([], [A])])
    assert (found["R@10"], found["merged R@1"], found["pointing"], found["RefCOCO"]) == (0, 0, 0, 0)


def test_baselines_do_what_their_names_say() -> None:
    whole, middle = grounded([], [[0.0, 0, 101, 97]]), grounded([], [[25.25, 24.25, 75.75, 72.75]])
    found = {name: grounding_metrics(rows)["R@1"] for name, rows in baselines([whole, middle]).items()}
    assert found["whole image"] == 0.5
    assert found["centre"] == 0.5
    drawn = baselines([whole] * 50, seed=1)["random"]
    assert all((one.boxes[:, 2:] >= one.boxes[:, :2]).all() for one in drawn)
    assert not np.array_equal(drawn[0].boxes, drawn[1].boxes)


def test_nothing_and_nonsense_are_refused() -> None:
    with pytest.raises(UsageError, match="no phrase"):
        grounding_metrics([])
    with pytest.raises(UsageError, match="not finite"):
        grounding_metrics([grounded([[0.0, 0, float("nan"), 1]], [A])])
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))).item() == 0
