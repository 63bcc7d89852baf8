"""Scores the clips of a video and selects highlights within a time budget.

Input: `VideoFeatures`, and embeddings of the clips and of a query where a model is given. A clip's score of
0 to 1 is the weighted mean of these signals, each as a percentile among the clips:

- **novelty**: 1 less the greatest cosine with an earlier clip, so that a repeated view counts once;
- **motion**, sound **level** and **speech** probability;
- **relevance**: cosine with the query, scaled from the least to the greatest.

Black or empty clips score 0. The selection maximises seconds times score exactly (`knapsack`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64

from sensorium.core.errors import UsageError
from sensorium.evals.rank_correlation import ranks
from sensorium.video.features import VideoFeatures
from sensorium.video.knapsack import knapsack

_BLACK = 12.0
_EMPTY_SHARPNESS = 0.5
# Clips: not longer than this, nor than a fifth of the summary, and not shorter than can be watched.
_LONGEST_S, _SHORTEST_S = 8.0, 0.8
_UNITS = 50_000


@dataclass(frozen=True)
class Weights:
    """Weights of the signals; signals that a video lacks are left out.

    Attributes:
        novelty: Unlike earlier clips.
        motion: Change between frames.
        level: Loudness.
        speech: Speech probability.
        relevance: Similarity to the query.
    """

    novelty: int | float = 1.0
    motion: int | float = 0.6
    level: int | float = 0.6
    speech: int | float = 0.4
    relevance: int | float = 4.0

    def __post_init__(self) -> None:
        values = [getattr(self, entry.name) for entry in fields(self)]
        if min(values) < 0 or max(values) == 0:
            raise UsageError(f"{self}: expected weights of 0 or more, one of them above 0")


@dataclass(frozen=True)
class Clip:
    """A part of shot number `shot`; `key_s` is the time of its clearest frame."""

    start_s: float
    end_s: float
    shot: int
    key_s: float

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


def read_length(text: str, duration_s: float) -> float:
    """Seconds that `15%`, `30s`, `90`, `2m30s` or `1:30` mean for a video.

    Raises:
        UsageError: If it is none of these, or zero.

    Example:
        >>> read_length("15%", 200.0), read_length("1:30", 200.0), read_length("2m30s", 60.0)
        (30.0, 90.0, 60.0)
    """
    share = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    clock = re.fullmatch(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", text.strip())
    units = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if share:
        seconds = float(share[1]) / 100 * duration_s
    elif (parts := clock or units) and text.strip():
        hours, minutes, rest = (float(part or 0) for part in parts.groups())
        seconds = 3600 * hours + 60 * minutes + rest
    else:
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"length '{text}'; expected a share or a time, such as 15%, 30s, 2m30s or 1:30")
    return min(seconds, duration_s)


def clips_of(features: VideoFeatures, budget_s: float) -> list[Clip]:
    """Split each shot into equal clips, short enough that several fit into `budget_s`."""
    longest_s = max(_SHORTEST_S, min(_LONGEST_S, budget_s / 5))
    clips: list[Clip] = []
    for number, shot in enumerate(features.shots):
        count = max(1, math.ceil(shot.duration_s / longest_s - 1e-9))
        edges = np.linspace(shot.start_s, shot.end_s, count + 1).tolist()
        for start_s, end_s in pairwise(edges):
            clips.append(Clip(start_s, end_s, number, key_time(features, start_s, end_s)))
    return clips


def key_time(features: VideoFeatures, start_s: float, end_s: float) -> float:
    """Time of the key frame: sharp and still, away from the cuts where there is room."""
    margin_s = (end_s - start_s) * 0.15
    part = features.samples(start_s + margin_s, end_s - margin_s)
    clear = features.sharpness[part] - features.motion[part] - 1000 * (features.brightness[part] < _BLACK)
    time_s = float(features.times_s[part][int(np.argmax(clear))])
    return time_s if start_s <= time_s < end_s else start_s


def score(
    features: VideoFeatures,
    clips: Sequence[Clip],
    *,
    vectors: Float[np.ndarray, "n E"] | None = None,
    query: Float[np.ndarray, " E"] | None = None,
    weights: Weights | None = None,
) -> tuple[Float64[np.ndarray, " n"], dict[str, Float64[np.ndarray, " n"]]]:
    """Score clips, given in ascending order.

    Clips are compared by their unit embeddings `vectors`, or by frame features if these are None; `query` is
    the unit embedding of the query.

    Returns:
        Scores of 0 to 1, and the signals by name.
    """
    weights = weights or Weights()
    looks = _looks(features, clips) if vectors is None else np.asarray(vectors, np.float64)
    signals = {"novelty": _novelty(looks), "motion": _mean(features.motion, features, clips)}
    if features.sound is not None:
        heard = np.array([features.sound.between(clip.start_s, clip.end_s) for clip in clips])
        signals |= {"level": heard[:, 0], "speech": heard[:, 1]}
    if query is not None:
        signals["relevance"] = looks @ np.asarray(query, np.float64)
    signals = {name: np.round(values, 6) for name, values in signals.items()}
    scores = _weighted(signals, {name: getattr(weights, name) for name in signals})
    is_black = _mean(features.brightness, features, clips) < _BLACK
    is_empty = is_black | (_mean(features.sharpness, features, clips) < _EMPTY_SHARPNESS)
    return np.where(is_empty, 0.0, scores), signals


def choose(clips: Sequence[Clip], scores: Float[np.ndarray, " n"], budget_s: float) -> list[int]:
    """Numbers of the clips with the greatest total of seconds times score that last at most `budget_s`.

    If none fits or all score 0, the best clip is taken: a summary is never empty.
    """
    unit_s = max(0.001, budget_s / _UNITS)
    sizes = [math.ceil(clip.duration_s / unit_s - 1e-6) for clip in clips]
    worth = [
        value * clip.duration_s if clip.duration_s >= _SHORTEST_S else value * clip.duration_s / 4
        for clip, value in zip(clips, scores.tolist(), strict=True)
    ]
    chosen = knapsack(worth, sizes, int(budget_s / unit_s + 1e-6))
    return chosen or [int(np.argmax(scores))]


def _weighted(
    signals: Mapping[str, Float64[np.ndarray, " n"]], weights: Mapping[str, float]
) -> Float64[np.ndarray, " n"]:
    """Weighted mean of the signals that vary."""
    telling = {name: weights[name] for name, values in signals.items() if np.ptp(values) > 0}
    count = len(next(iter(signals.values())))
    total = sum(telling.values())
    if total == 0:
        return np.full(count, 0.5)
    parts = [weight / total * _scaled(name, signals[name]) for name, weight in telling.items()]
    mean: np.ndarray = np.sum(parts, axis=0)
    return mean


def _scaled(name: str, values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Scale to 0..1 by rank; relevance by value, so that a good match stands out."""
    if name == "relevance":
        relative: np.ndarray = (values - values.min()) / np.ptp(values)
        return relative
    return (ranks(values) - 0.5) / len(values)


def _novelty(looks: Float64[np.ndarray, "n D"]) -> Float64[np.ndarray, " n"]:
    """1 less the greatest cosine with an earlier clip; the first clip gets the maximum."""
    novelty = np.ones(len(looks))
    for at in range(1, len(looks)):
        novelty[at] = 1 - float((looks[:at] @ looks[at]).max())
    if len(looks) > 1:
        novelty[0] = novelty[1:].max()
    return novelty


def _looks(features: VideoFeatures, clips: Sequence[Clip]) -> Float64[np.ndarray, "n D"]:
    """Normalised mean of the frame features of each clip."""
    means = np.stack(
        [
            features.vectors[features.samples(clip.start_s, clip.end_s)].mean(axis=0, dtype=np.float64)
            for clip in clips
        ]
    )
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    looks: np.ndarray = means / np.maximum(lengths, 1e-9)
    return looks


def _mean(
    values: Float[np.ndarray, " m"], features: VideoFeatures, clips: Sequence[Clip]
) -> Float64[np.ndarray, " n"]:
    return np.array([float(values[features.samples(clip.start_s, clip.end_s)].mean()) for clip in clips])
