"""Aligns two recordings, videos or tables of numbers in time by exact DTW.

Input: two files with the same content at different paces. Output: for each moment of A the moment of B, with
a confidence. `series` reads the vectors that are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from sensorium.align.series import By, TimedSeries, read_pair
from sensorium.core.runtime import Progress, quiet
from sensorium.dtw.warping import Alignment, dtw

_METRIC = {"sound": "cosine", "picture": "euclidean", "numbers": "euclidean"}
_SMOOTH_S = 0.5


@dataclass(frozen=True, eq=False)
class SeriesAlignment:
    """Two series on one timeline; times of `a` are the reference."""

    a: TimedSeries
    b: TimedSeries
    alignment: Alignment

    @cached_property
    def times_b_s(self) -> Float64[np.ndarray, " n"]:
        """Time in B of each `a.times_s`: the mean over its pairs, made monotone."""
        places = self.alignment.places()
        times_s = np.interp(places, np.arange(len(self.b.times_s)), self.b.times_s)
        return np.maximum.accumulate(times_s)

    @cached_property
    def confidence(self) -> Float64[np.ndarray, " n"]:
        """For each moment of A, 0 to 1 (see `Alignment.confidence`)."""
        path = self.alignment.path
        assert path is not None, "the path was asked for"
        counts = np.bincount(path[:, 0], minlength=len(self.a.times_s))
        sums = np.bincount(path[:, 0], weights=self.alignment.confidence, minlength=len(self.a.times_s))
        return sums / np.maximum(counts, 1)

    def clock(self) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """Knots of a smooth map from times of A to times of B.

        The path is averaged over half a second; its ends are fixed.
        """
        step_s = max(float(np.median(np.diff(self.a.times_s))) if len(self.a.times_s) > 1 else 1.0, 1e-6)
        width = max(1, round(_SMOOTH_S / step_s)) if self.a.kind != "numbers" else 1
        reach = min(width // 2, (len(self.a.times_s) - 1) // 2)
        kernel = np.full(2 * reach + 1, 1 / (2 * reach + 1))
        smooth = [
            np.convolve(np.pad(times, reach, mode="reflect", reflect_type="odd"), kernel, mode="valid")
            for times in (self.a.times_s, self.times_b_s)
        ]
        return smooth[0], np.maximum.accumulate(np.clip(smooth[1], 0, self.b.duration_s))

    @property
    def unpaired(self) -> str:
        """Names of ignored columns in one line; empty if there are none."""
        sides = [f"{one.path.name}: {', '.join(one.unpaired)}" for one in (self.a, self.b) if one.unpaired]
        return "; ".join(sides)

    def report(self) -> dict[str, object]:
        """The alignment as plain values for JSON: files, distance, confidence, and pairs of times."""
        path = self.alignment.path
        assert path is not None, "the path was asked for"
        rows = zip(self.a.times_s.tolist(), self.times_b_s.tolist(), self.confidence.tolist(), strict=True)
        columns = {"columns": list(self.a.columns)} if self.a.columns and self.b.columns else {}
        return {
            "kind": self.a.kind,
            **columns,
            "a": {"path": str(self.a.path), "duration_s": round(self.a.duration_s, 3)},
            "b": {"path": str(self.b.path), "duration_s": round(self.b.duration_s, 3)},
            **({"not_paired": self.unpaired} if self.unpaired else {}),
            "distance": self.alignment.distance,
            "distance_a_pair": self.alignment.distance / len(path),
            "confidence": round(float(self.confidence.mean()), 4),
            "path": [[round(a_s, 4), round(b_s, 4), round(sure, 3)] for a_s, b_s, sure in rows],
        }


def align_series(
    a: Path,
    b: Path,
    *,
    by: By = "auto",
    open_begin: bool = False,
    open_end: bool = False,
    progress: Progress = quiet,
) -> SeriesAlignment:
    """Align two recordings, videos or tables of numbers; times of `a` are the reference.

    Args:
        a: The reference.
        b: The other file.
        by: Compare videos by `sound` or `picture`; auto: by picture if both have one.
        open_begin: A may begin anywhere in B.
        open_end: A may end anywhere in B.
        progress: Reports the current step.

    Raises:
        NotFoundError: If a file is not there.
        MediaError: If a file does not decode, or lacks the sound or picture to compare.
        UsageError: If the files are of different kinds.
    """
    progress(0, None, f"reading {a.name} and {b.name}")
    first, second = read_pair(a, b, by)
    progress(0, None, f"aligning {len(first.times_s):,} by {len(second.times_s):,} steps")
    alignment = dtw(
        first.values, second.values, metric=_METRIC[first.kind], open_begin=open_begin, open_end=open_end
    )
    return SeriesAlignment(first, second, alignment)
