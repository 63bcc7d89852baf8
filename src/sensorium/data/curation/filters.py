"""Quality filters of rows: image size and aspect, duration, language, number of words, CLIP score.

Input: a table and `Filters`. Output: for each row the reason to drop it, or None. A filter keeps rows that it
does not apply to: audio under `min_px`, an image without text under `languages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.curation.language import count_words, detect_language, matches
from sensorium.data.curation.measure import measure_rows
from sensorium.data.table.sample import Caption
from sensorium.data.table.table import Table

_CHUNK = 8192


@dataclass(frozen=True)
class Filters:
    """Conditions that a row must meet; None switches a filter off.

    Attributes:
        min_px: Minimum short side of images and videos.
        max_aspect: Maximum ratio of long to short side.
        min_s: Minimum duration of audio and video.
        max_s: Maximum duration of audio and video.
        languages: At least one text is in one of these, as tagged or as detected.
        is_strict: Also drop texts whose language cannot be detected.
        min_words: At least one text has this many words (in one of `languages` if given).
        max_words: At least one text has no more words.
        min_clip_score: Minimum cosine between the image and its best text; needs `scores`.
    """

    min_px: int | None = None
    max_aspect: float | None = None
    min_s: float | None = None
    max_s: float | None = None
    languages: tuple[str, ...] = ()
    is_strict: bool = False
    min_words: int | None = None
    max_words: int | None = None
    min_clip_score: float | None = None


def drop_reasons(
    table: Table,
    filters: Filters,
    scores: Float32[np.ndarray, " n"] | None = None,
    *,
    progress: Progress = quiet,
) -> list[str | None]:
    """Return for each row the first reason to drop it, or None.

    Args:
        table: The table.
        filters: The conditions.
        scores: CLIP score of each row (see `clip_scores`), NaN if it has none.
        progress: Reports the number of rows measured.

    Raises:
        UsageError: If `min_clip_score` is given without `scores`.
    """
    if filters.min_clip_score is not None and scores is None:
        raise UsageError("a minimum CLIP score needs the scores of a model; name one with --model RUN")
    found: list[str | None] = [None] * len(table)
    for mask, reason in _by_numbers(table, filters, scores, progress):
        for row in np.flatnonzero(mask).tolist():
            found[row] = found[row] or reason
    if filters.languages or filters.min_words is not None or filters.max_words is not None:
        for start in range(0, len(table), _CHUNK):
            numbers = range(start, min(start + _CHUNK, len(table)))
            for row, sample in zip(numbers, table.rows(numbers, columns=["texts"]), strict=True):
                found[row] = found[row] or _by_texts(sample.texts, filters)
    return found


def clip_scores(table: Table, fingerprint: str) -> Float32[np.ndarray, " n"]:
    """CLIP score of each row: the cosine of its image and its best text; NaN if it lacks either.

    Reference: Hessel et al., arXiv:2104.08718, here without the factor 2.5 and without clipping at 0.

    Raises:
        NotFoundError: If the table has no image or no text vectors of the model.
    """
    result = np.full(len(table), np.nan, dtype=np.float32)
    image_rows, images = table.vectors("image", fingerprint)
    text_rows, texts = table.vectors("text", fingerprint)
    if not len(image_rows):
        return result
    index = np.minimum(np.searchsorted(image_rows, text_rows), len(image_rows) - 1)
    is_pair = image_rows[index] == text_rows
    cosines = np.einsum("ne,ne->n", texts[is_pair], images[index[is_pair]])
    np.fmax.at(result, text_rows[is_pair], cosines)
    return result


def _by_numbers(
    table: Table, filters: Filters, scores: np.ndarray | None, progress: Progress
) -> Iterator[tuple[np.ndarray, str]]:
    """For each filter of sizes, durations and scores: a mask of the rows to drop, and the reason."""
    if any(bound is not None for bound in (filters.min_px, filters.max_aspect, filters.min_s, filters.max_s)):
        known = measure_rows(table, progress=progress)
        short = np.minimum(known.width_px, known.height_px)
        long = np.maximum(known.width_px, known.height_px)
        if filters.min_px is not None:
            yield (short > 0) & (short < filters.min_px), f"short side under {filters.min_px} px"
        if filters.max_aspect is not None:
            yield (short > 0) & (long > filters.max_aspect * short), f"aspect over {filters.max_aspect:g}"
        if filters.min_s is not None:
            yield known.duration_s < filters.min_s, f"shorter than {filters.min_s:g} s"
        if filters.max_s is not None:
            yield known.duration_s > filters.max_s, f"longer than {filters.max_s:g} s"
    if filters.min_clip_score is not None and scores is not None:
        yield scores < filters.min_clip_score, f"clip score under {filters.min_clip_score:g}"


def _by_texts(texts: Sequence[Caption], filters: Filters) -> str | None:
    if not texts:
        return None
    matching = [caption for caption in texts if _is_in(caption, filters)]
    if not matching:
        return f"language not {' or '.join(filters.languages)}"
    counts = [count_words(caption.text) for caption in matching]
    if filters.min_words is not None and max(counts) < filters.min_words:
        return f"fewer than {filters.min_words} words"
    if filters.max_words is not None and min(counts) > filters.max_words:
        return f"more than {filters.max_words} words"
    return None


def _is_in(caption: Caption, filters: Filters) -> bool:
    language = caption.language or detect_language(caption.text)
    if not filters.languages or (not language and not filters.is_strict):
        return True
    return any(matches(language, wanted) for wanted in filters.languages)
