"""Serializes transcripts as text, JSON, subtitles or TextGrid; the file's extension selects the format.

JSON is `{"text", "segments": [{"start_s", "end_s", "text",
"words": [{"word", "start_s", "end_s", "confidence"}]}], "language", "duration_s"}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from sensorium.core.errors import UsageError
from sensorium.core.files import write_atomic
from sensorium.media.timed_text import as_json as words_as_json
from sensorium.media.timed_text import to_srt, to_textgrid, to_vtt
from sensorium.speech.transcribe import Transcript


def as_json(transcript: Transcript) -> dict[str, object]:
    """Convert a transcript to plain values for JSON."""
    return {
        "text": transcript.text,
        "segments": [
            {
                "start_s": segment.start_s,
                "end_s": segment.end_s,
                "text": segment.text,
                "words": words_as_json(segment.words),
            }
            for segment in transcript.segments
        ],
        "language": transcript.language,
        "duration_s": transcript.duration_s,
    }


WRITERS: Mapping[str, Callable[[Transcript], str]] = MappingProxyType(
    {
        ".txt": lambda transcript: "".join(f"{segment.text}\n" for segment in transcript.segments),
        ".json": lambda transcript: json.dumps(as_json(transcript), ensure_ascii=False, indent=1) + "\n",
        ".srt": lambda transcript: to_srt(transcript.timed),
        ".vtt": lambda transcript: to_vtt(transcript.timed),
        ".textgrid": lambda transcript: to_textgrid(transcript.timed),
    }
)


def writer_of(path: Path) -> Callable[[Transcript], str]:
    """Return the serializer of a file's extension; call it before any work to refuse a wrong one.

    Raises:
        UsageError: If there is none.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"{path.name}: expected .txt, .json, .srt, .vtt or .TextGrid (Praat)")
    return writer


def write_transcript(transcript: Transcript, path: Path) -> None:
    """Write in the format of the extension of `path`; the file is complete or absent.

    Raises:
        UsageError: If the extension is not known.
    """
    write_atomic(path, writer_of(path)(transcript))
