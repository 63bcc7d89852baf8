"""The keyframe sheet of a summary: for each chapter a strip of what the reel shows of it, on one PNG.

In: a summary. Out: a picture, by the same drawing as search results (`sheet`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sensorium.core.files import write_atomic
from sensorium.display.card import PICTURE_PX, Card, query_card
from sensorium.display.contact_sheet import Strip, draw_sheet
from sensorium.media.frames import frames_at
from sensorium.video.chapters import Chapter, clock
from sensorium.video.summarize import Chosen, Summary

_MOST_FRAMES = 60
_SURROUND = (22, 23, 28)


def write_keyframes(summary: Summary, path: Path, *, columns: int = 4) -> Path:
    """Draw the sheet.

    Args:
        summary: Whose chosen stretches are shown, the best 60 of them.
        path: Where the PNG goes.
        columns: Frames beside each other.
    """
    film = summary.film
    shown = sorted(summary.chosen, key=lambda one: -one.score)[:_MOST_FRAMES]
    shown.sort(key=lambda one: one.start_s)
    pictures = _pictures(film.path, [one.key_s for one in shown])
    strips: list[Strip] = []
    for number, chapter in enumerate(summary.chapters, start=1):
        inside = [n for n, one in enumerate(shown) if chapter.start_s <= one.start_s < chapter.end_s]
        if inside:
            hits = [_frame_card(shown[n], pictures[n]) for n in inside]
            strips.append(Strip(_chapter_card(number, chapter, [shown[n] for n in inside]), hits))
    total_s = sum(one.end_s - one.start_s for one in summary.chosen)
    footer = f"{clock(film.duration_s)} · {len(film.shots)} shots · reel of {clock(total_s)} · sensorium"
    sheet = draw_sheet(strips, title=film.path.name, footer=footer, columns=columns)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
    return path


def _pictures(video: Path, times_s: Sequence[float]) -> list[Image.Image]:
    """Squares of the frames at ascending times; one that does not decode is that of the one before."""
    found_s: list[float] = []
    squares: list[Image.Image] = []
    for frame in frames_at(video, times_s, target_px=PICTURE_PX):
        found_s.append(frame.time_s)
        squares.append(_square(Image.fromarray(np.ascontiguousarray(frame.pixels))))
    empty = Image.new("RGB", (PICTURE_PX, PICTURE_PX), _SURROUND)
    places = np.searchsorted(found_s, np.array(times_s) + 1e-6, side="right") - 1
    return [squares[max(place, 0)] if squares else empty for place in places.tolist()]


def _square(picture: Image.Image) -> Image.Image:
    return ImageOps.pad(picture, (PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS, _SURROUND)


def _frame_card(chosen: Chosen, picture: Image.Image) -> Card:
    length = f"{chosen.end_s - chosen.start_s:.1f} s"
    caption = f"{clock(chosen.start_s)} to {clock(chosen.end_s)}"
    if chosen.reasons:
        caption += f": {', '.join(chosen.reasons[:3])}"
    return Card(caption, f"shot {chosen.shot + 1}", picture, chosen.score, length)


def _chapter_card(number: int, chapter: Chapter, inside: Sequence[Chosen]) -> Card:
    """The chapter's title on a card; its score is the mean of what is shown of it."""
    span = f"{clock(chapter.start_s)} to {clock(chapter.end_s)}"
    words = query_card(f"{number}. {chapter.title}", "")
    mean = float(np.mean([one.score for one in inside]))
    return Card(span, "chapter", words.picture, mean, f"{len(inside)} in the reel")
