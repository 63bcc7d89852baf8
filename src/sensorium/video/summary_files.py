"""Writes the files of a summary: reel, keyframes, chapters, text and a JSON report.

The files are `reel.mp4`, `keyframes.png`, `chapters.vtt|.ffmeta|.json`, `reel.edl`, `summary.md` and
`summary.json`. Each is complete or absent. `summary.json` is written last, so it implies the others.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.display.card import PICTURE_PX, Card, query_card
from sensorium.display.contact_sheet import Strip, draw_sheet
from sensorium.media.frames import frames_at
from sensorium.video.captions import measured_caption
from sensorium.video.chapters import Chapter, clock, to_edl, to_ffmetadata, to_json, to_webvtt
from sensorium.video.reel import write_reel
from sensorium.video.summarize import Chosen, Summary

_MOST_FRAMES = 60
_SURROUND = (22, 23, 28)


def write_summary(summary: Summary, out: Path, *, progress: Progress = quiet) -> dict[str, object]:
    """Write the reel, keyframes, chapters and text of a summary.

    The folder is made if it is missing; files of an earlier summary in it are replaced. `progress` reports
    seconds of the reel.

    Returns:
        What `summary.json` holds: shots, chosen, chapters, and the paths of the other files.
    """
    features, name = summary.features, summary.features.path.name
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "vtt": out / "chapters.vtt",
        "ffmetadata": out / "chapters.ffmeta",
        "chapters_json": out / "chapters.json",
        "edl": out / "reel.edl",
        "text": out / "summary.md",
    }
    spans = [Chapter(one.start_s, one.end_s, _chapter_of(summary, one).title) for one in summary.chosen]
    write_atomic(files["vtt"], to_webvtt(summary.chapters))
    write_atomic(files["ffmetadata"], to_ffmetadata(summary.chapters, name))
    write_atomic(files["chapters_json"], to_json(summary.chapters, name))
    write_atomic(files["edl"], to_edl(spans, name, features.frame_rate_hz, name))
    write_atomic(files["text"], to_text(summary))
    keyframes = write_keyframes(summary, out / "keyframes.png")
    reel = write_reel(
        features.path,
        [(one.start_s, one.end_s) for one in summary.chosen],
        out / "reel.mp4",
        titles=[f"{clock(one.start_s)} {one.title}" for one in spans],
        progress=progress,
    )
    report = to_report(summary) | {"reel": str(reel.path), "keyframes": str(keyframes)}
    report |= {key: str(path) for key, path in files.items()}
    write_atomic(out / "summary.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    return report


def to_report(summary: Summary) -> dict[str, object]:
    """Shots, chosen parts and chapters as plain values for JSON, seconds to the millisecond."""
    return {
        "video": str(summary.features.path),
        "duration_s": round(summary.features.duration_s, 3),
        "has_sound": summary.features.sound is not None,
        "captions": summary.captions,
        "shots": [{"start_s": round(s.start_s, 3), "end_s": round(s.end_s, 3)} for s in summary.shots],
        "chosen": [
            {
                "start_s": round(one.start_s, 3),
                "end_s": round(one.end_s, 3),
                "score": round(one.score, 3),
                "shot": one.shot,
                "reasons": list(one.reasons),
            }
            for one in summary.chosen
        ],
        "chapters": [
            {"start_s": round(c.start_s, 3), "end_s": round(c.end_s, 3), "title": c.title}
            for c in summary.chapters
        ],
    }


def to_text(summary: Summary) -> str:
    """Serialize a summary as Markdown: a line of facts, then a line for each chapter."""
    features, total_s = summary.features, sum(one.end_s - one.start_s for one in summary.chosen)
    facts = f"{clock(features.duration_s)} long, {len(features.shots)} shots, "
    facts += "no sound" if features.sound is None else "with sound"
    facts += f"; the reel shows {len(summary.chosen)} parts in {clock(total_s)}."
    lines = [f"# {features.path.name}", "", facts, ""]
    for chapter in summary.chapters:
        shown = [one for one in summary.chosen if chapter.start_s <= one.start_s < chapter.end_s]
        line = f"- **{clock(chapter.start_s)} to {clock(chapter.end_s)}** {chapter.title}"
        if summary.captions != "measured":
            line += f" ({measured_caption(features, chapter.start_s, chapter.end_s)})"
        if shown:
            line += f"; in the reel: {', '.join(clock(one.start_s) for one in shown)}"
        lines.append(line)
    if summary.captions == "measured":
        lines += [
            "",
            "Chapters are described by what was measured; a model that describes pictures gives captions.",
        ]
    return "\n".join(lines) + "\n"


def _chapter_of(summary: Summary, chosen: Chosen) -> Chapter:
    return next(chapter for chapter in reversed(summary.chapters) if chapter.start_s <= chosen.start_s + 1e-6)


def write_keyframes(summary: Summary, path: Path, *, columns: int = 4) -> Path:
    """Draw the key frames of each chapter, of the 60 best parts, as strips of a contact sheet (PNG)."""
    features = summary.features
    shown = sorted(summary.chosen, key=lambda one: -one.score)[:_MOST_FRAMES]
    shown.sort(key=lambda one: one.start_s)
    pictures = _pictures(features.path, [one.key_s for one in shown])
    strips: list[Strip] = []
    for number, chapter in enumerate(summary.chapters, start=1):
        inside = [n for n, one in enumerate(shown) if chapter.start_s <= one.start_s < chapter.end_s]
        if inside:
            hits = [_frame_card(shown[n], pictures[n]) for n in inside]
            strips.append(Strip(_chapter_card(number, chapter, [shown[n] for n in inside]), hits))
    total_s = sum(one.end_s - one.start_s for one in summary.chosen)
    facts = f"{clock(features.duration_s)} · {len(features.shots)} shots · reel of {clock(total_s)}"
    sheet = draw_sheet(strips, title=features.path.name, footer=f"{facts} · sensorium", columns=columns)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
    return path


def _pictures(video: Path, times_s: Sequence[float]) -> list[Image.Image]:
    """Square images of the frames at ascending times; one that does not decode repeats the one before."""
    found_s: list[float] = []
    squares: list[Image.Image] = []
    size = (PICTURE_PX, PICTURE_PX)
    for frame in frames_at(video, times_s, target_px=PICTURE_PX):
        found_s.append(frame.time_s)
        picture = Image.fromarray(np.ascontiguousarray(frame.pixels))
        squares.append(ImageOps.pad(picture, size, Image.Resampling.LANCZOS, _SURROUND))
    empty = Image.new("RGB", size, _SURROUND)
    places = np.searchsorted(found_s, np.array(times_s) + 1e-6, side="right") - 1
    return [squares[max(place, 0)] if squares else empty for place in places.tolist()]


def _frame_card(chosen: Chosen, picture: Image.Image) -> Card:
    length = f"{chosen.end_s - chosen.start_s:.1f} s"
    caption = f"{clock(chosen.start_s)} to {clock(chosen.end_s)}"
    if chosen.reasons:
        caption += f": {', '.join(chosen.reasons[:3])}"
    return Card(caption, f"shot {chosen.shot + 1}", picture, chosen.score, length)


def _chapter_card(number: int, chapter: Chapter, inside: Sequence[Chosen]) -> Card:
    """Card with the chapter's title and the mean score of its frames."""
    span = f"{clock(chapter.start_s)} to {clock(chapter.end_s)}"
    words = query_card(f"{number}. {chapter.title}", "")
    mean = float(np.mean([one.score for one in inside]))
    return Card(span, "chapter", words.picture, mean, f"{len(inside)} in the reel")
