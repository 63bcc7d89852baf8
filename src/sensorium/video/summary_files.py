"""The folder of a summary: reel, keyframes, chapters, text, and one JSON file that names them all.

In: a `Summary`. Out: `reel.mp4`, `keyframes.png`, `chapters.vtt|.ffmeta|.json`, `reel.edl`, `summary.md` and
`summary.json`, each whole or absent; `summary.json` comes last, so where it is, the rest is.
"""

from __future__ import annotations

import json
from pathlib import Path

from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.video.captions import measured
from sensorium.video.chapters import Chapter, clock, to_edl, to_ffmetadata, to_json, to_webvtt
from sensorium.video.keyframes import write_keyframes
from sensorium.video.reel import write_reel
from sensorium.video.summarize import Chosen, Summary


def write_summary(summary: Summary, out: Path, *, progress: Progress = quiet) -> dict[str, object]:
    """Write the reel, keyframes, chapters and text of a summary.

    Args:
        summary: What to write.
        out: A folder; made if missing, files of an earlier summary in it are replaced.
        progress: Told the seconds of the reel that were written.

    Returns:
        What `summary.json` holds: shots, chosen, chapters, and the paths of the other files.
    """
    film, name = summary.film, summary.film.path.name
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "vtt": out / "chapters.vtt",
        "ffmetadata": out / "chapters.ffmeta",
        "chapters_json": out / "chapters.json",
        "edl": out / "reel.edl",
        "text": out / "summary.md",
    }
    stretches = [Chapter(one.start_s, one.end_s, _chapter_of(summary, one).title) for one in summary.chosen]
    write_atomic(files["vtt"], to_webvtt(summary.chapters))
    write_atomic(files["ffmetadata"], to_ffmetadata(summary.chapters, name))
    write_atomic(files["chapters_json"], to_json(summary.chapters, name))
    write_atomic(files["edl"], to_edl(stretches, name, film.frame_rate_hz, name))
    write_atomic(files["text"], to_text(summary))
    keyframes = write_keyframes(summary, out / "keyframes.png")
    reel = write_reel(
        film.path,
        [(one.start_s, one.end_s) for one in summary.chosen],
        out / "reel.mp4",
        titles=[f"{clock(one.start_s)} {one.title}" for one in stretches],
        progress=progress,
    )
    report = to_report(summary) | {"reel": str(reel.path), "keyframes": str(keyframes)}
    report |= {key: str(path) for key, path in files.items()}
    write_atomic(out / "summary.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    return report


def to_report(summary: Summary) -> dict[str, object]:
    """Shots, chosen stretches and chapters as plain values, seconds to the millisecond."""
    return {
        "video": str(summary.film.path),
        "duration_s": round(summary.film.duration_s, 3),
        "has_sound": summary.film.sound is not None,
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
    """The summary as Markdown: one line of facts, then a line for each chapter."""
    film, total_s = summary.film, sum(one.end_s - one.start_s for one in summary.chosen)
    facts = f"{clock(film.duration_s)} long, {len(film.shots)} shots, "
    facts += "no sound" if film.sound is None else "with sound"
    facts += f"; the reel shows {len(summary.chosen)} parts in {clock(total_s)}."
    lines = [f"# {film.path.name}", "", facts, ""]
    for chapter in summary.chapters:
        shown = [one for one in summary.chosen if chapter.start_s <= one.start_s < chapter.end_s]
        line = f"- **{clock(chapter.start_s)} to {clock(chapter.end_s)}** {chapter.title}"
        if summary.captions != "measured":
            line += f" ({measured(film, chapter.start_s, chapter.end_s)})"
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
