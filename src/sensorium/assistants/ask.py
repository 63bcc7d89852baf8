"""Builds the chat turn for a task (caption, ask, translate...) from its media and text, and asks a model.

The instruction is that of training (`models.prompts`). A task that the model was not trained for is refused.
`moments` splits a long video or sound into parts; `together` groups files into turns. `best_of` draws several
images and keeps the best; `AssistantCaptioner` captions the images of a video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from sensorium import media
from sensorium.assistants.assistant import (
    PLAIN,
    Assistant,
    Generation,
    Output,
    Part,
    Turn,
    WriteConfig,
    write_config,
)
from sensorium.assistants.capabilities import check_capability, warn_of_language
from sensorium.core.errors import UsageError
from sensorium.core.registry import Registry
from sensorium.media.audio_blocks import HOURS_LIMITS, audio_blocks
from sensorium.media.frames import STREAM_LIMITS, frames_at
from sensorium.media.types import Audio, Image
from sensorium.models.prompts import DECODER_OF, Task, instruction
from sensorium.video.captions import Captioner

_RATE_HZ = 16_000
_ENOUGH_PX = 512
_LONG_S = 60
_CAPTION_CONFIG = write_config(48, 0.0)
"""A caption is one sentence."""
RERANKERS: Registry[Generation] = Registry("reranker")
"""Plug-ins that choose the best of several drawings: functions of the model that draws, the model that
judges, the text, the number of samples and the options."""


def ask(
    assistant: Assistant,
    task: Task,
    parts: Sequence[Part] = (),
    *,
    text: str = "",
    language: str = "",
    config: WriteConfig = PLAIN,
) -> Generation:
    """Ask a model to do a task; nothing is generated before the answer is iterated over or read.

    Args:
        assistant: The model.
        task: The task.
        parts: Its media.
        text: The question, or the text to translate, draw or speak.
        language: Code of the language to translate into.
        config: Options of generation.

    Raises:
        UsageError: If the model was not trained for the task, the text is empty, or text or media do not fit.
    """
    check_capability(assistant.name, assistant.capabilities, task, language)
    if task in ("ask", "text", "draw"):  # longer texts are checked as a whole, not by the sentence
        warn_of_language(assistant.name, assistant.capabilities, task, text)
    asked = instruction(task, text.strip(), language)
    return assistant.reply([Turn("user", (*parts, asked))], config, to=cast(Output, DECODER_OF[task]))


def can_rerank() -> bool:
    """Whether an installed package provides a reranker."""
    return bool(list(RERANKERS))


def best_of(
    artist: Assistant, judge: Assistant, text: str, count: int, config: WriteConfig = PLAIN
) -> Generation:
    """Draw a text several times and keep the image that the first reranker selects.

    Args:
        artist: Model that draws.
        judge: Model that scores the images.
        text: Description of the image.
        count: Number of samples.
        config: Options of generation, with the first seed.

    Raises:
        UsageError: If no reranker is installed, or one of the models was not trained for its task.
    """
    if not can_rerank():
        raise UsageError("no reranker is installed: give --best-of 1, or pip install contrib/composed_world")
    return RERANKERS.get(next(iter(RERANKERS)))(artist, judge, text, count, config)


class AssistantCaptioner:
    """Captions images one by one and leaves out repeated captions.

    Args:
        assistant: A model that was trained to caption.
        fallback: Asked where the assistant returns an empty text.

    Raises:
        UsageError: If the model was not trained to caption.
    """

    def __init__(self, assistant: Assistant, fallback: Captioner | None = None) -> None:
        check_capability(assistant.name, assistant.capabilities, "caption")
        self._assistant, self._fallback = assistant, fallback

    def caption(self, pictures: Sequence[Image]) -> str:
        """Caption images; see `Captioner.caption`."""
        texts = [ask(self._assistant, "caption", [one], config=_CAPTION_CONFIG).text for one in pictures]
        lines = dict.fromkeys(" ".join(one.split()).rstrip(".") for one in texts)
        text = "; ".join(filter(None, lines))
        return text if text or self._fallback is None else self._fallback.caption(pictures)


def together(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Group files into turns: files of different kinds share a turn, several of one kind get one each.

    Args:
        paths: Media; several of at most one kind.

    Raises:
        NotFoundError: If a file is not there.
        UsageError: If there are several of two kinds.

    Example:
        >>> together([])
        [()]
    """
    by_kind: dict[str, list[Path]] = {}
    for path in paths:
        by_kind.setdefault(media.probe(path, limits=STREAM_LIMITS).kind, []).append(path)
    several = [kind for kind, own in by_kind.items() if len(own) > 1]
    if len(several) > 1:
        raise UsageError(
            f"several of {' and of '.join(several)} at once: which belong together? Ask of one kind in turn"
        )
    singles = [own[0] for own in by_kind.values() if len(own) == 1]
    return [(path, *singles) for path in by_kind[several[0]]] if several else [tuple(singles)]


def is_long(path: Path) -> bool:
    """Whether a video or a sound is longer than a minute."""
    return (media.probe(path, limits=STREAM_LIMITS).duration_s or 0) > _LONG_S


@dataclass(frozen=True)
class Moment:
    """A part of a video or a sound.

    Attributes:
        start_s: When it begins.
        medium: Its middle frame, or its sound.
    """

    start_s: float
    medium: Image | Audio


def moments(path: Path, every_s: int | float) -> tuple[Iterator[Moment], int | None]:
    """Split a video or a sound of any length; one part is in memory.

    Args:
        path: A video or a sound.
        every_s: Length of a part.

    Returns:
        The parts in order of time, and their number, if the file's header gives its duration.

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If it is neither.
    """
    header = media.probe(path, limits=STREAM_LIMITS)
    if header.kind not in ("video", "audio"):
        raise UsageError(f"{path} is {header.kind}, which has no length; --every is for videos and sounds")
    count = None if header.duration_s is None else max(1, int(np.ceil(header.duration_s / every_s - 1e-6)))
    if header.kind == "audio":
        return _sounds(path, every_s), count
    if count is None:
        raise UsageError(f"{path} does not say how long it is; ask without --every")
    return _views(path, every_s, count, header.duration_s or 0.0), count


def _views(path: Path, every_s: int | float, count: int, duration_s: float) -> Iterator[Moment]:
    middles_s = [min((part + 0.5) * every_s, duration_s) for part in range(count)]
    for frame in frames_at(path, middles_s, target_px=_ENOUGH_PX):
        yield Moment(float(frame.time_s // every_s * every_s), Image(frame.pixels, str(path)))


def _sounds(path: Path, every_s: int | float) -> Iterator[Moment]:
    size, start_s = max(1, round(every_s * _RATE_HZ)), 0.0
    kept = np.zeros(0, np.float32)
    for block in audio_blocks(path, rate_hz=_RATE_HZ, limits=HOURS_LIMITS):
        kept = np.concatenate([kept, block])
        while len(kept) >= size:
            yield Moment(start_s, Audio(kept[:size, None], _RATE_HZ, str(path)))
            kept, start_s = kept[size:], start_s + every_s
    if len(kept):
        yield Moment(start_s, Audio(kept[:, None], _RATE_HZ, str(path)))
