"""Transcribes recordings of any length with a trained model that reads a few seconds at a time.

The recording is cut into chunks. A chunk ends at the quietest tenth of a second in its second half, so that
few words are cut. Each chunk becomes a segment of the `Transcript`; words have no times. Memory is that of
one chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import write_config
from sensorium.assistants.capabilities import check_capability
from sensorium.assistants.multimodal_assistant import MultimodalAssistant
from sensorium.core.runtime import Progress, quiet
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.types import Audio
from sensorium.speech.transcribe import RATE_HZ, Segment, Transcript, header_s

_DEFAULT_CHUNK_S = 10.0
_FRAME = RATE_HZ // 10
_SILENT_PEAK = 1e-4
_CHUNK_CONFIG = write_config(256, 0.0)
"""Ten seconds of speech are some 40 words."""


class ChunkedTranscriber:
    """A multimodal model as a speech recogniser.

    Args:
        assistant: The model.
        language: Code of the spoken language; the model must know it.

    Raises:
        UsageError: If the model was not trained to transcribe, or not in this language.
    """

    def __init__(self, assistant: MultimodalAssistant, language: str = "") -> None:
        check_capability(assistant.name, assistant.capabilities, "transcribe", language)
        self._assistant = assistant
        self._language = language or next(iter(assistant.capabilities["transcribe"]), "")

    def transcribe(self, audio: Path, *, progress: Progress = quiet) -> Transcript:
        """Transcribe a file; see `Transcriber.transcribe`."""
        total_s, end_s, segments = header_s(audio), 0.0, list[Segment]()
        message = f"transcribing {audio.name}"
        progress(0, total_s, message)
        for start_s, samples in chunks(
            audio_blocks(audio, rate_hz=RATE_HZ), self._assistant.hears_s or _DEFAULT_CHUNK_S
        ):
            end_s = start_s + len(samples) / RATE_HZ
            text = "" if np.abs(samples).max() < _SILENT_PEAK else self._transcribe_chunk(samples)
            if text:
                segments.append(Segment(text, round(start_s, 2), round(end_s, 2)))
            progress(int(end_s), total_s, message)
        whole = " ".join(one.text for one in segments)
        return Transcript(whole, tuple(segments), self._language, round(end_s, 2))

    def _transcribe_chunk(self, samples: Float32[np.ndarray, " T"]) -> str:
        sound = Audio(samples[:, None], RATE_HZ)
        return " ".join(ask(self._assistant, "transcribe", [sound], config=_CHUNK_CONFIG).text.split())


def chunks(
    blocks: Iterable[Float32[np.ndarray, " _"]], longest_s: int | float
) -> Iterator[tuple[float, Float32[np.ndarray, " S"]]]:
    """Cut a sound at 16 kHz into chunks of at most `longest_s`; yields each with its start in seconds.

    Example:
        >>> sound = np.ones(12 * 16_000, np.float32)
        >>> sound[7 * 16_000 : 8 * 16_000] = 0
        >>> [(round(start, 1), round(len(part) / 16_000, 1)) for start, part in chunks([sound], 10)]
        [(0.0, 7.0), (7.0, 5.0)]
    """
    size, start = int(longest_s * RATE_HZ), 0
    kept = np.zeros(0, np.float32)
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) > size:
            cut = _quietest(kept[:size])
            yield start / RATE_HZ, kept[:cut]
            kept, start = kept[cut:], start + cut
    if len(kept):
        yield start / RATE_HZ, kept


def _quietest(samples: Float32[np.ndarray, " T"]) -> int:
    """Middle of the quietest tenth of a second in the second half; the end of what is shorter."""
    half = samples[len(samples) // 2 :]
    frames = half[: len(half) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames):
        return len(samples)
    return len(samples) // 2 + int((frames**2).mean(axis=1).argmin()) * _FRAME + _FRAME // 2
