"""Summarises a video: shots, scored clips, a selection for a reel, and chapters.

Input: a video and a length; optionally a query, an embedding model and a captioner. Output: a `Summary`;
`summary_files` writes its files. Without a model, clips are compared by colours, edges and motion; chapter
titles come from measured features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from sensorium import media
from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet, track
from sensorium.core.types import Embedder
from sensorium.media.frames import frames_at
from sensorium.video.captions import Captioner, NearestCaptioner, measured_caption
from sensorium.video.chapters import Chapter, find_chapters, titled
from sensorium.video.features import VideoFeatures, extract_features
from sensorium.video.highlights import Clip, Weights, choose, clips_of, read_length, score
from sensorium.video.shots import Detector, Shot

_EMBED_PX = 256
_EMBED_AT_ONCE = 32
_PICTURES_PER_CHAPTER = 3


@dataclass(frozen=True)
class SummaryRequest:
    """Options of a summary.

    Attributes:
        length: Of the reel: `15%`, `30s`, `1:30`.
        query: A text to look for; needs a model.
        model: Embeds images and texts; None: frame features are compared.
        captioner: Captions chapters; None: `measured_caption` does.
        detector: Finds the shots; None: `ShotDetector`.
        weights: Of the signals.
    """

    length: str = "15%"
    query: str | None = None
    model: Embedder | None = None
    captioner: Captioner | None = None
    detector: Detector | None = None
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True)
class Chosen:
    """A part of the reel: one clip, or several consecutive ones.

    Attributes:
        start_s: Where it begins in the video.
        end_s: Where it ends.
        score: Mean of its clips, 0 to 1.
        shot: Number of the shot that it begins in.
        key_s: Time of its key frame.
        reasons: Signals in which it exceeds 60 % of the clips, strongest first.
    """

    start_s: float
    end_s: float
    score: float
    shot: int
    key_s: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Summary:
    """A summarised video.

    Attributes:
        features: Of the video.
        clips: Parts of its shots.
        scores: Of the clips, 0 to 1.
        chosen: Parts of the reel, ascending.
        chapters: Cover the whole video.
        captions: Where titles come from: "measured", "nearest" or "written".
    """

    features: VideoFeatures
    clips: list[Clip]
    scores: Float64[np.ndarray, " n"]
    chosen: list[Chosen]
    chapters: list[Chapter]
    captions: Literal["measured", "nearest", "written"]

    @property
    def shots(self) -> list[Shot]:
        """Shots of the video."""
        return self.features.shots

    def scores_at(self, times_s: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Score of the clip at each time, for comparison with human annotations."""
        starts = np.array([clip.start_s for clip in self.clips])
        return self.scores[np.clip(np.searchsorted(starts, times_s + 1e-6, side="right") - 1, 0, None)]


def summarize(video: Path, request: SummaryRequest | None = None, *, progress: Progress = quiet) -> Summary:
    """Extract features, score clips, select highlights and find chapters; writes no files.

    `progress` reports seconds of the video.

    Raises:
        NotFoundError: If there is no such file.
        MediaError: If it is not a video, or not one frame decodes.
        UsageError: If there is a query without a model, or the length is no length.
    """
    request = request or SummaryRequest()
    if request.query is not None and request.model is None:
        raise UsageError("a query needs a model that knows pictures and words; give --model RUN")
    read_length(request.length, 1.0)
    features = extract_features(video, detector=request.detector, progress=progress)
    budget_s = read_length(request.length, features.duration_s)
    clips = clips_of(features, budget_s)
    vectors = query = None
    if request.model is not None:
        vectors = _embed(request.model, video, clips, progress)
        if request.query is not None:
            query = request.model.embed([request.query]).vectors[0]
    scores, signals = score(features, clips, vectors=vectors, query=query, weights=request.weights)
    chosen = _merge_clips(clips, scores, signals, choose(clips, scores, budget_s), budget_s)
    chapters = find_chapters(features)
    titles = [
        _title(features, chapter, request.captioner, clips, scores)
        for chapter in track(chapters, len(chapters), "describing chapters", progress)
    ]
    return Summary(features, clips, scores, chosen, titled(chapters, titles), _source_of(request.captioner))


def _embed(
    model: Embedder, video: Path, clips: Sequence[Clip], progress: Progress
) -> Float32[np.ndarray, "n E"]:
    """Embedding of each clip's key frame; a frame that does not decode gets that of the one before."""
    times_s = np.array([clip.key_s for clip in clips])
    found_s: list[float] = []
    parts: list[np.ndarray] = []
    pictures: list[media.Image] = []
    for frame in frames_at(video, times_s.tolist(), target_px=_EMBED_PX):
        found_s.append(frame.time_s)
        pictures.append(media.Image(frame.pixels))
        if len(pictures) == _EMBED_AT_ONCE:
            parts.append(model.embed(pictures).vectors)
            pictures = []
            progress(len(found_s), len(clips), "embedding keyframes")
    if pictures:
        parts.append(model.embed(pictures).vectors)
    vectors = np.concatenate(parts)
    return vectors[np.clip(np.searchsorted(found_s, times_s + 1e-6, side="right") - 1, 0, None)]


def _merge_clips(
    clips: Sequence[Clip],
    scores: Float64[np.ndarray, " n"],
    signals: dict[str, Float64[np.ndarray, " n"]],
    chosen: Sequence[int],
    budget_s: float,
) -> list[Chosen]:
    """Merge consecutive clips; a single part longer than the budget is cut."""
    groups: list[list[int]] = []
    for number in chosen:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    joined: list[Chosen] = []
    for group in groups:
        first, last = clips[group[0]], clips[group[-1]]
        end_s = min(last.end_s, first.start_s + budget_s) if len(groups) == 1 else last.end_s
        best = max(group, key=lambda number: scores[number])
        above = {name: float((values < values[best]).mean()) for name, values in signals.items()}
        reasons = tuple(name for name in sorted(above, key=lambda name: -above[name]) if above[name] >= 0.6)
        joined.append(
            Chosen(first.start_s, end_s, float(scores[group].mean()), first.shot, clips[best].key_s, reasons)
        )
    return joined


def _source_of(captioner: Captioner | None) -> Literal["measured", "nearest", "written"]:
    if captioner is None:
        return "measured"
    return "nearest" if isinstance(captioner, NearestCaptioner) else "written"


def _title(
    features: VideoFeatures,
    chapter: Chapter,
    captioner: Captioner | None,
    clips: Sequence[Clip],
    scores: Float64[np.ndarray, " n"],
) -> str:
    if captioner is None:
        return measured_caption(features, chapter.start_s, chapter.end_s)
    inside = [n for n, clip in enumerate(clips) if chapter.start_s <= clip.start_s < chapter.end_s]
    best = sorted(sorted(inside, key=lambda number: -scores[number])[:_PICTURES_PER_CHAPTER])
    shown = frames_at(features.path, [clips[number].key_s for number in best], target_px=_EMBED_PX)
    pictures = [media.Image(frame.pixels) for frame in shown]
    return captioner.caption(pictures) if pictures else ""
