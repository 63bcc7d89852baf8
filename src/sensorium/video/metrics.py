"""Evaluates video summaries against human annotations by the protocols of SumMe and TVSum.

Input: importance scores at sampled frames, and annotations. Output: F-score and rank correlations, with the
baselines `random`, `uniform` and `human`. On these data sets random summaries reach almost the F-score of
trained ones (Otani et al., CVPR 2019): read the rank correlations first.

Protocol (Zhang et al. 2016, arXiv 1605.08110, section 4.1, and the `eccv16` files): a score holds from its
frame to the next sampled one. A segment has the mean score of its frames. A 0/1 knapsack selects segments for
15 % of the frames. F is computed against each annotator; SumMe takes the maximum, TVSum the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Num

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.runtime import require
from sensorium.evals.rank_correlation import kendall, spearman
from sensorium.video.knapsack import knapsack

Rule = Literal["max", "avg"]
SHARE = 0.15
_RANDOM_DRAWS = 100


@dataclass(frozen=True, eq=False)
class MarkedVideo:
    """An annotated video; names are those of the `eccv16` files.

    Attributes:
        change_points: First and last frame of each segment, (s, 2), both included.
        num_frames: Of the video.
        picks: Sampled frames, ascending, (p,).
        user_summary: Whether each annotator selected each frame, (users, num_frames).
        user_scores: Importance by each annotator at `picks`, (users, p), from TVSum's own files.
        gtscore: Importance by all annotators, (p,).
        name: Of the video.
    """

    change_points: Int64[np.ndarray, "s 2"]
    num_frames: int
    picks: Int64[np.ndarray, " p"]
    user_summary: Bool[np.ndarray, "users frames"]
    user_scores: Float[np.ndarray, "users p"] | None = None
    gtscore: Float[np.ndarray, " p"] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        ends, starts = self.change_points[:, 1], self.change_points[:, 0]
        is_cover = starts[0] == 0 and (starts[1:] == ends[:-1] + 1).all() and (ends >= starts).all()
        if not is_cover or ends[-1] >= self.num_frames:
            raise UsageError(
                f"{self.name or 'video'}: segments must begin at 0 and follow each other up to frame "
                f"{self.num_frames - 1}; got {self.change_points[:2].tolist()}..."
            )
        if self.user_summary.shape[1] != self.num_frames or len(self.picks) < 2:
            raise UsageError(
                f"{self.name or 'video'}: {self.user_summary.shape[1]} marked frames of {self.num_frames}, "
                f"{len(self.picks)} picks; expected all frames and two picks or more"
            )

    @property
    def references(self) -> Float64[np.ndarray, "users p"]:
        """Reference scores: each annotator's, else `gtscore`, else the share of annotators."""
        if self.user_scores is not None:
            return self.user_scores.astype(np.float64)
        if self.gtscore is not None:
            return self.gtscore.astype(np.float64)[None]
        shares: np.ndarray = self.user_summary[:, self.picks].mean(axis=0, dtype=np.float64)[None]
        return shares


@dataclass(frozen=True)
class SummaryScore:
    """Agreement with the annotators: F-score (0 to 1), and mean tau-b and rho over annotators."""

    f: float
    kendall: float
    spearman: float


def evaluate_summary(scores: Float[np.ndarray, " p"], video: MarkedVideo, rule: Rule) -> SummaryScore:
    """Evaluate importance scores at `video.picks`, on any scale; rule `max` is that of SumMe, `avg` of TVSum.

    Raises:
        UsageError: If there is not one finite score for each pick.
    """
    if scores.shape != video.picks.shape or not np.isfinite(scores).all():
        raise UsageError(
            f"scores {scores.shape} for {len(video.picks)} picks; expected a finite one for each"
        )
    f = f_score(select_frames(scores, video), video.user_summary, rule)
    return _with_ranks(f, scores, video.references)


def baselines(video: MarkedVideo, rule: Rule, *, seed: int = 0) -> dict[str, SummaryScore]:
    """Baseline scores: `random`, `uniform` and, with two or more annotators, `human`.

    random: mean over 100 draws of scores. uniform: segments spread evenly up to 15 %; its correlations are 0.
    human: each annotator against the others, mean over annotators.
    """
    rng = np.random.default_rng(seed)
    drawn = [evaluate_summary(rng.random(len(video.picks)), video, rule) for _ in range(_RANDOM_DRAWS)]
    rows = {"random": _mean(drawn)}
    rows["uniform"] = SummaryScore(f_score(uniform_frames(video), video.user_summary, rule), 0.0, 0.0)
    if len(video.user_summary) > 1:
        rows["human"] = _mean(
            [_leave_one_out(video, person, rule) for person in range(len(video.user_summary))]
        )
    return rows


def evaluate_dataset(
    videos: list[MarkedVideo], predict: Callable[[MarkedVideo], Float[np.ndarray, " p"]], rule: Rule
) -> dict[str, SummaryScore]:
    """Mean over videos of `model` and of the baselines; nothing is tuned on test videos."""
    if not videos:
        raise UsageError("no videos to evaluate; give at least one")
    rows: dict[str, list[SummaryScore]] = {}
    for video in videos:
        found = {"model": evaluate_summary(predict(video), video, rule), **baselines(video, rule)}
        for name, score in found.items():
            rows.setdefault(name, []).append(score)
    return {name: _mean(scores) for name, scores in rows.items()}


def select_frames(
    scores: Float[np.ndarray, " p"], video: MarkedVideo, *, share: float = SHARE
) -> Bool[np.ndarray, " frames"]:
    """Select the segments of greatest total score within a share of the frames."""
    by_frame = np.zeros(video.num_frames)
    ends = np.append(video.picks[1:], video.num_frames)
    for start, end, value in zip(video.picks, ends, scores, strict=True):
        by_frame[start:end] = value
    sums = np.concatenate([[0.0], np.cumsum(by_frame)])
    starts, stops = video.change_points[:, 0], video.change_points[:, 1] + 1
    lengths = stops - starts
    values = (sums[stops] - sums[starts]) / lengths
    # A constant shift must not decide which are worth taking: the least segment is worth nothing.
    values = values - min(0.0, float(values.min()))
    return _frames_of(knapsack(values, lengths, int(video.num_frames * share)), video)


def uniform_frames(video: MarkedVideo, *, share: float = SHARE) -> Bool[np.ndarray, " frames"]:
    """Select evenly spread segments: halves, then quarters, ..., as long as they fit."""
    room, taken = int(video.num_frames * share), list[int]()
    for number in _spread_order(len(video.change_points)):
        start, stop = video.change_points[number]
        if stop - start + 1 <= room:
            room -= int(stop - start + 1)
            taken.append(number)
    return _frames_of(taken, video)


def f_score(
    summary: Bool[np.ndarray, " frames"], users: Bool[np.ndarray, "users frames"], rule: Rule
) -> float:
    """F of selected frames against each annotator's; the maximum (`max`) or the mean (`avg`).

    Example:
        >>> users = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)
        >>> f_score(np.array([1, 0, 0, 0], bool), users, "max")
        0.6666666666666666
    """
    both = (users & summary).sum(axis=1)
    sizes = users.sum(axis=1) + int(summary.sum())
    values = 2 * both / np.maximum(sizes, 1)
    return float(values.max() if rule == "max" else values.mean())


def read_eccv16(path: str | Path) -> Iterator[MarkedVideo]:
    """Read an `eccv16_dataset_*.h5` file (needs h5py).

    Raises:
        MissingExtraError: If h5py is not installed.
        NotFoundError: If there is no such file.
        UsageError: If a video in it lacks a key.
    """
    h5py = require("h5py", "h5")
    if not Path(path).is_file():
        raise NotFoundError(f"no file {path}; give the path of an eccv16 .h5 file")
    with closing(h5py.File(path, "r")) as file:
        for name in file:
            group = file[name]
            missing = {"change_points", "n_frames", "picks", "user_summary"} - set(group)
            if missing:
                raise UsageError(f"{path}: {name} lacks {', '.join(sorted(missing))}")
            yield MarkedVideo(
                change_points=np.asarray(group["change_points"], np.int64),
                num_frames=int(np.asarray(group["n_frames"])),
                picks=np.asarray(group["picks"], np.int64),
                user_summary=np.asarray(group["user_summary"]) > 0,
                gtscore=np.asarray(group["gtscore"], np.float64) if "gtscore" in group else None,
                name=str(name),
            )


def _with_ranks(
    f: float, scores: Num[np.ndarray, " p"], references: Float64[np.ndarray, "users p"]
) -> SummaryScore:
    taus = [kendall(scores, reference) for reference in references]
    rhos = [spearman(scores, reference) for reference in references]
    return SummaryScore(f, float(np.mean(taus)), float(np.mean(rhos)))


def _leave_one_out(video: MarkedVideo, person: int, rule: Rule) -> SummaryScore:
    """Evaluate one annotator's summary and scores against those of all others."""
    others = np.arange(len(video.user_summary)) != person
    f = f_score(video.user_summary[person], video.user_summary[others], rule)
    if video.user_scores is not None:
        scores = video.user_scores[person].astype(np.float64)
        return _with_ranks(f, scores, video.user_scores[others].astype(np.float64))
    scores = video.user_summary[person, video.picks].astype(np.float64)
    shares = video.user_summary[others][:, video.picks].mean(axis=0, dtype=np.float64)
    return _with_ranks(f, scores, shares[None])


def _frames_of(segments: list[int], video: MarkedVideo) -> Bool[np.ndarray, " frames"]:
    chosen = np.zeros(video.num_frames, bool)
    for number in segments:
        chosen[video.change_points[number, 0] : video.change_points[number, 1] + 1] = True
    return chosen


def _spread_order(count: int) -> list[int]:
    """0 to count - 1 in van der Corput order: every prefix is spread evenly."""
    bits = max(1, (count - 1).bit_length())
    order = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)]
    return [number for number in order if number < count]


def _mean(scores: list[SummaryScore]) -> SummaryScore:
    return SummaryScore(
        *(float(np.mean([getattr(one, name) for one in scores])) for name in ("f", "kendall", "spearman"))
    )
