"""Scores and choice: composed highlights are ranked, budgets are kept, repeats count once."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import UsageError
from sensorium.evals.rank_correlation import spearman
from sensorium.media.loudness import LoudnessTrack
from sensorium.video.features import DIM, VideoFeatures, extract_features
from sensorium.video.highlights import Clip, Weights, choose, clips_of, read_length, score
from sensorium.video.shots import Shot
from sensorium.video.summarize import SummaryRequest, summarize
from tiny_films import highlight_film


def film_of(
    shots: list[tuple[float, float]], *, motion=None, brightness=120.0, sound=None, looks=None
) -> VideoFeatures:
    """A film that was never seen: every sample of one shot alike, four a second."""
    end_s = shots[-1][1]
    times_s = np.arange(0, end_s, 0.25)
    of_shot = np.searchsorted([b for _, b in shots], times_s, side="right")
    looks = np.eye(len(shots), DIM) if looks is None else looks
    per_sample = np.full(len(times_s), 5.0) if motion is None else np.asarray(motion)[of_shot]
    return VideoFeatures(
        path=Path("film.mp4"),
        duration_s=end_s,
        frame_rate_hz=25.0,
        shots=[Shot(a, b) for a, b in shots],
        times_s=times_s,
        vectors=looks[of_shot].astype(np.float16),
        motion=per_sample.astype(np.float32),
        sharpness=np.full(len(times_s), 20.0, np.float32),
        brightness=np.broadcast_to(np.asarray(brightness, np.float32), len(times_s)).copy(),
        sound=sound,
    )


@pytest.mark.parametrize("seed", range(3))
def test_composed_highlights_are_ranked(tmp_path, seed):
    grades = highlight_film(tmp_path / "film.mp4", seed)
    summary = summarize(tmp_path / "film.mp4", SummaryRequest(length="20%"))
    middles_s = (np.arange(len(grades)) + 0.5) * 2.4
    found = summary.scores_at(middles_s)
    assert spearman(found, grades) >= 0.6
    assert abs(spearman(np.arange(len(grades)) % 2, grades)) < 0.45
    worth = dict(enumerate(grades.tolist()))
    taken = [worth[min(int((one.start_s + 0.1) / 2.4), len(grades) - 1)] for one in summary.chosen]
    assert np.mean(taken) > 2
    total_s = sum(one.end_s - one.start_s for one in summary.chosen)
    assert total_s <= 0.2 * summary.features.duration_s + 1e-6


def test_watching_tells_what_there_is(tmp_path):
    highlight_film(tmp_path / "film.mp4", 1, num_segments=4)
    film = extract_features(tmp_path / "film.mp4")
    assert film.duration_s == pytest.approx(9.6, abs=0.11)
    assert film.frame_rate_hz == pytest.approx(10, abs=0.2)
    assert len(film.times_s) == len(film.vectors) == len(film.motion) >= 32
    assert film.vectors.shape[1] == DIM
    assert film.sound is not None
    assert len(film.sound.level_db) == pytest.approx(96, abs=3)


def test_repeated_views_count_once():
    looks = np.eye(2, DIM)[[0, 1, 0, 0]]
    film = film_of([(0.0, 4.0), (4.0, 8.0), (8.0, 12.0), (12.0, 16.0)], looks=looks)
    clips = clips_of(film, 24.0)
    scores, signals = score(film, clips)
    assert signals["novelty"].tolist() == pytest.approx([1, 1, 0, 0])
    assert min(scores[:2]) > max(scores[2:])


def test_each_signal_raises_its_clip_and_missing_ones_are_left_out():
    shots = [(0.0, 4.0), (4.0, 8.0), (8.0, 12.0)]
    level = np.repeat([-50.0, -50.0, -10.0], 40).astype(np.float32)
    speech = np.repeat([0.9, 0.1, 0.1], 40).astype(np.float32)
    film = film_of(shots, motion=[1, 9, 1], sound=LoudnessTrack(level, speech))
    clips = clips_of(film, 24.0)
    for name, best in [("motion", 1), ("level", 2), ("speech", 0)]:
        weights = Weights(**{"novelty": 0.0, "motion": 0.0, "level": 0.0, "speech": 0.0} | {name: 1.0})
        scores, _ = score(film, clips, weights=weights)
        assert int(scores.argmax()) == best
    mute, signals = score(film_of(shots, motion=[1, 9, 1]), clips)
    assert set(signals) == {"novelty", "motion"}
    assert int(mute.argmax()) == 1


def test_the_query_decides_in_the_joint_space():
    film = film_of([(float(n), float(n + 1)) for n in range(5)], motion=[9, 8, 7, 6, 5])
    vectors = np.eye(5, 7, dtype=np.float32)
    scores, signals = score(film, clips_of(film, 5.0), vectors=vectors, query=vectors[3])
    assert int(scores.argmax()) == 3
    assert "relevance" in signals


def test_black_clips_score_nothing_and_a_uniform_film_is_all_alike():
    film = film_of([(0.0, 4.0), (4.0, 8.0)], brightness=np.repeat([3.0, 120.0], 16))
    scores, _ = score(film, clips_of(film, 24.0))
    assert scores[0] == 0 < scores[1]
    still = film_of([(0.0, 30.0)])
    scores, _ = score(still, clips_of(still, 6.0), weights=Weights(novelty=0.0))
    assert set(scores.tolist()) == {0.5}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 17), st.floats(0.3, 60))
def test_the_choice_fits_and_is_never_empty(seed, n, budget_s):
    rng = np.random.default_rng(seed)
    edges = np.concatenate([[0.0], np.cumsum(rng.uniform(0.1, 9, n))]).tolist()
    clips = [Clip(a, b, 0, a) for a, b in itertools.pairwise(edges)]
    scores = rng.random(n)
    chosen = choose(clips, scores, budget_s)
    assert chosen == sorted(set(chosen))
    assert len(chosen) >= 1
    assert len(chosen) == 1 or sum(clips[k].duration_s for k in chosen) <= budget_s + 1e-6


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0.5, 90))
def test_clips_cover_their_shots(seed, n, budget_s):
    rng = np.random.default_rng(seed)
    edges = np.concatenate([[0.0], np.cumsum(rng.uniform(0.3, 25, n))]).tolist()
    film = film_of(list(itertools.pairwise(edges)))
    clips = clips_of(film, budget_s)
    assert clips[0].start_s == 0
    assert clips[-1].end_s == edges[-1]
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(clips))
    assert all(clip.start_s <= clip.key_s < clip.end_s for clip in clips)
    assert max(clip.duration_s for clip in clips) <= max(0.8, min(8, budget_s / 5)) + 1e-6


def test_lengths():
    lengths = {
        "15%": 30,
        "30s": 30,
        "90": 90,
        "2m30s": 150,
        "1:30": 90,
        "0:01:10": 70,
        "1.5s": 1.5,
        "500%": 200,
    }
    for text, seconds in lengths.items():
        assert read_length(text, 200.0) == pytest.approx(seconds)
    for text in ["", "0%", "-3s", "abc", "15 percent", "0"]:
        with pytest.raises(UsageError, match="length"):
            read_length(text, 200.0)


def test_weights_are_checked():
    with pytest.raises(UsageError):
        Weights(novelty=-1.0)
    with pytest.raises(UsageError):
        Weights(novelty=0, motion=0, level=0, speech=0, relevance=0)
