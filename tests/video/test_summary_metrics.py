"""Summary metrics against SciPy, brute force and the rules written out plainly."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import MissingExtraError, UsageError
from sensorium.evals.rank_correlation import kendall, ranks, spearman
from sensorium.video.chapters import kts
from sensorium.video.knapsack import knapsack
from sensorium.video.metrics import (
    MarkedVideo,
    baselines,
    evaluate_dataset,
    evaluate_summary,
    f_score,
    read_eccv16,
    select_frames,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 41), st.integers(1, 11))
def test_rank_correlations_are_scipys(seed, n, levels):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, levels + 1, n), rng.integers(0, levels + 1, n)
    np.testing.assert_array_equal(ranks(a), scipy.stats.rankdata(a))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert kendall(a, b) == spearman(a, b) == 0
    else:
        assert kendall(a, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic, abs=1e-12)
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)


def test_rank_correlations_refuse_what_cannot_be_ranked():
    with pytest.raises(UsageError, match="same items"):
        kendall(np.arange(3), np.arange(4))
    with pytest.raises(UsageError):
        spearman(np.arange(1), np.arange(1))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(0, 43))
def test_the_knapsack_is_exact(seed, n, capacity):
    rng = np.random.default_rng(seed)
    values, sizes = rng.normal(1, 1, n), rng.integers(0, 17, n)
    chosen = knapsack(values, sizes, capacity)
    assert chosen == sorted(set(chosen))
    assert sizes[chosen].sum() <= capacity
    every = [list(some) for k in range(n + 1) for some in combinations(range(n), k)]
    best = max(values[some].sum() for some in every if sizes[some].sum() <= capacity)
    assert values[chosen].sum() == pytest.approx(best)


def test_the_greedy_choice_would_be_wrong_and_bad_sizes_are_refused():
    assert knapsack([2.0, 10.0], [1, 10], 10) == [1]
    for values, sizes, capacity in [
        ([1.0], [1, 2], 3),
        ([1.0], [-1], 3),
        ([np.nan], [1], 3),
        ([1.0], [1], -1),
    ]:
        with pytest.raises(UsageError):
            knapsack(values, sizes, capacity)
    assert knapsack([], [], 5) == []


def scatter(features, edges):
    parts = [features[a:b] for a, b in pairwise(edges)]
    return sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 11), st.integers(1, 3))
def test_kts_finds_the_least_scatter(seed, n, num_changes):
    features = np.random.default_rng(seed).normal(size=(n, 3))
    changes = kts(features, max_changes=9, num_changes=num_changes)
    assert len(changes) == num_changes
    best = min(scatter(features, [0, *cuts, n]) for cuts in combinations(range(1, n), num_changes))
    assert scatter(features, [0, *changes, n]) == pytest.approx(best)


def test_kts_finds_how_many_segments_there_are():
    rng = np.random.default_rng(3)
    centres, lengths = rng.normal(size=(5, 23)), [31, 17, 43, 11, 29]
    features = np.repeat(centres, lengths, axis=0) + 0.05 * rng.normal(size=(sum(lengths), 23))
    assert kts(features, max_changes=20).tolist() == np.cumsum(lengths)[:-1].tolist()
    assert kts(features, max_changes=20, penalty=1e6).tolist() == []
    assert kts(features[:1], max_changes=5).tolist() == []
    with pytest.raises(UsageError):
        kts(features[:3], max_changes=5, num_changes=3)


def marked_video(seed: int = 0, num_users: int = 7) -> MarkedVideo:
    """People take some of the same segments, those that a hidden importance makes likely."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(19, 61, 23)
    stops = np.cumsum(lengths)
    num_frames = int(stops[-1])
    importance = rng.random(23)
    user_scores = importance[None] + 0.2 * rng.normal(size=(num_users, 23))
    picks = np.arange(0, num_frames, 15)
    segment_of = np.searchsorted(stops, np.arange(num_frames), side="right")
    taken = np.argsort(-user_scores, axis=1)[:, :4]
    users = np.stack([np.isin(segment_of, some) for some in taken])
    return MarkedVideo(
        np.stack([stops - lengths, stops - 1], axis=1),
        num_frames,
        picks,
        users,
        user_scores[:, segment_of[picks]],
    )


def plain_summary(scores, video):
    """The protocol as the reference code does it, frame by frame, with a brute knapsack over tables."""
    frame_scores = np.zeros(video.num_frames)
    positions = [*video.picks.tolist(), video.num_frames]
    for i in range(len(scores)):
        frame_scores[positions[i] : positions[i + 1]] = scores[i]
    capacity = int(np.floor(video.num_frames * 0.15))
    segments = video.change_points.tolist()
    values = [frame_scores[a : b + 1].mean() for a, b in segments]
    sizes = [b - a + 1 for a, b in segments]
    table = [[0.0] * (capacity + 1) for _ in range(len(sizes) + 1)]
    for i in range(1, len(sizes) + 1):
        for w in range(capacity + 1):
            table[i][w] = table[i - 1][w]
            if sizes[i - 1] <= w:
                table[i][w] = max(table[i][w], table[i - 1][w - sizes[i - 1]] + values[i - 1])
    return table[len(sizes)][capacity], values, sizes, capacity


@pytest.mark.parametrize("seed", range(3))
def test_the_summary_is_the_protocols(seed):
    video = marked_video(seed)
    scores = np.random.default_rng(seed).random(len(video.picks))
    best, values, sizes, capacity = plain_summary(scores, video)
    frames = select_frames(scores, video)
    taken = [n for n, (a, b) in enumerate(video.change_points) if frames[a]]
    assert all(frames[a : b + 1].all() == frames[a : b + 1].any() for a, b in video.change_points)
    assert sum(sizes[n] for n in taken) == frames.sum() <= capacity
    assert sum(values[n] for n in taken) == pytest.approx(best)


def test_f_is_the_harmonic_mean_of_precision_and_recall():
    rng = np.random.default_rng(1)
    summary, users = rng.random(97) < 0.2, rng.random((5, 97)) < 0.15
    by_person = []
    for user in users:
        precision, recall = (summary & user).sum() / summary.sum(), (summary & user).sum() / user.sum()
        both = precision + recall
        by_person.append(2 * precision * recall / both if both else 0.0)
    assert f_score(summary, users, "max") == pytest.approx(max(by_person))
    assert f_score(summary, users, "avg") == pytest.approx(np.mean(by_person))
    assert f_score(np.zeros(97, bool), users, "avg") == 0


@pytest.mark.parametrize("rule", ["max", "avg"])
def test_the_rows_stand_in_the_order_that_they_should(rule):
    videos = [marked_video(seed, num_users=5) for seed in range(3)]
    rows = evaluate_dataset(videos, lambda video: video.user_scores.mean(axis=0), rule)
    assert set(rows) == {"model", "random", "uniform", "human"}
    assert rows["model"].spearman > rows["human"].spearman > 0.3
    # The knapsack by mean scores prefers short segments, so that people need not lie below the best scores.
    assert min(rows["model"].f, rows["human"].f) > rows["random"].f + 0.1
    assert abs(rows["random"].spearman) < 0.05 > abs(rows["random"].kendall)
    assert rows["uniform"].spearman == rows["uniform"].kendall == 0
    assert baselines(videos[0], rule) == baselines(videos[0], rule)


def test_without_scores_of_each_person_the_share_of_people_is_ranked():
    full = marked_video(5)
    video = MarkedVideo(full.change_points, full.num_frames, full.picks, full.user_summary)
    shares = full.user_summary[:, full.picks].mean(axis=0)
    assert evaluate_summary(shares, video, "max").spearman == pytest.approx(1)
    assert baselines(video, "max")["human"].spearman > 0.3
    by_all = MarkedVideo(
        full.change_points, full.num_frames, full.picks, full.user_summary, gtscore=1 - shares
    )
    assert evaluate_summary(shares, by_all, "max").spearman == pytest.approx(-1)


def test_what_does_not_fit_is_refused(tmp_path):
    video = marked_video()
    with pytest.raises(UsageError, match="finite"):
        evaluate_summary(np.zeros(3), video, "max")
    with pytest.raises(UsageError, match="finite"):
        evaluate_summary(np.full(len(video.picks), np.nan), video, "max")
    with pytest.raises(UsageError, match="follow each other"):
        MarkedVideo(video.change_points[1:], video.num_frames, video.picks, video.user_summary)
    with pytest.raises(UsageError, match="marked frames"):
        MarkedVideo(video.change_points, video.num_frames + 1, video.picks, video.user_summary)
    with pytest.raises(UsageError, match="no videos"):
        evaluate_dataset([], lambda video: video.picks * 1.0, "avg")
    with pytest.raises(MissingExtraError, match="h5py"):
        list(read_eccv16(tmp_path / "none.h5"))
