"""What is said in a recording, with times; recordings may be hours long.

In: a sound file, or a video with sound. Out: text, in segments with words. A window of 30 s is heard and
written down at a time; the next one begins where the last whole segment of it ended, so that no word is cut.
Memory is that of one window. What Whisper makes of silence, noise and its own repetitions is refused by
measures of the draft (`dictation`), and a window without any sound is not even heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from sensorium.core.errors import MediaError
from sensorium.core.runtime import Progress, pick_device, quiet
from sensorium.data.packages import weights
from sensorium.generation import Memory
from sensorium.media import probe
from sensorium.media.audio_blocks import HOURS_LIMITS, audio_blocks
from sensorium.media.logmel_windows import FRAMES_A_SECOND, FrameWindows, Window
from sensorium.models.pretrained.whisper import Precision, Whisper, load_whisper
from sensorium.models.pretrained.whisper_vocabulary import TIME_STEP_S
from sensorium.tasks.dictation import DictationConfig, Scribe
from sensorium.tasks.subtitles import TimedWord
from sensorium.tasks.word_times import longest_s, without_pause, word_times

DEFAULT = "whisper-tiny.en"
_INAUDIBLE = -8.0
_FRAMES_A_STEP = round(TIME_STEP_S * FRAMES_A_SECOND)
_WARM = 0.5
"""What was written at a higher temperature is not shown to the next window."""


class TranscribeConfig(DictationConfig):
    """How a recording is written down.

    Attributes:
        language: Code of what is spoken; empty: told by a multilingual model.
        is_conditioned: Whether a window is shown what was written before: keeps spelling and style, but also
            errors.
        has_words: Whether words are timed.
    """

    language: str = ""
    is_conditioned: bool = False
    has_words: bool = True


PLAIN = TranscribeConfig()


@dataclass(frozen=True)
class Segment:
    """A sentence or so.

    Attributes:
        text: What is said.
        start_s: When it begins.
        end_s: When it has ended.
        words: Its words, where they were asked for.
    """

    text: str
    start_s: float
    end_s: float
    words: tuple[TimedWord, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """All that is said in a recording.

    Attributes:
        text: The whole text.
        segments: Its parts, in order of time.
        language: Code of what is spoken.
        duration_s: Length of the recording.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str
    duration_s: float

    @property
    def words(self) -> list[TimedWord]:
        """All words; each knows its segment by `line`."""
        return [word for segment in self.segments for word in segment.words]


class Transcriber:
    """A recogniser that is ready for recordings, one after another.

    Args:
        whisper: The recogniser.
        config: How it writes.
        progress: Told while machine code is compiled.

    Example:
        >>> transcriber = load_transcriber()                     # doctest: +SKIP
        >>> transcriber.transcribe(Path("talk.mp3")).text        # doctest: +SKIP
        'Good morning.'
    """

    def __init__(
        self, whisper: Whisper, config: TranscribeConfig = PLAIN, progress: Progress = quiet
    ) -> None:
        whisper.vocabulary.opening(config.language)  # a wrong language is told before any work
        self.whisper, self.config = whisper, config
        self._scribe = Scribe(whisper, config, progress)

    def transcribe(self, audio: Path, *, progress: Progress = quiet) -> Transcript:
        """Write down what is said.

        Args:
            audio: A sound file, or a video with sound.
            progress: Told how many seconds are done.

        Raises:
            NotFoundError: If there is no such file.
            MediaError: If there is no sound in it.
        """
        model = self.whisper.model
        # Whisper was trained on 16-bit samples, which do not go beyond 1.
        blocks = (np.clip(block, -1, 1) for block in audio_blocks(audio))
        windows = FrameWindows(blocks, model.config.encoder.num_mels, model.window_frames)
        clerk, start, length_s = _Clerk(self.whisper, self._scribe, self.config), 0, _length_s(audio)
        message = f"listening to {audio.name}"
        progress(0, length_s, message)
        while (window := windows.window(start)).num_real:
            start += clerk.take(window, start)
            progress(int(start / FRAMES_A_SECOND), length_s, message)
        duration_s = round(start / FRAMES_A_SECOND, 2)
        return Transcript(clerk.text.strip(), tuple(clerk.segments), clerk.language or "en", duration_s)


def load_transcriber(
    name: str | Path = DEFAULT,
    config: TranscribeConfig = PLAIN,
    *,
    precision: Literal["auto"] | Precision = "auto",
    device: str = "cpu",
    progress: Progress = quiet,
) -> Transcriber:
    """Load a recogniser.

    Args:
        name: "whisper-tiny.en", fetched on first use; a folder with a Whisper of any size; `hf:OWNER/NAME`.
        config: How it writes.
        precision: `mixed` (the decoder alone in bfloat16) writes what `fp32` writes; `bf16` is half as fast
            again where the processor has products in bfloat16, and writes another word now and then. `auto`
            is `mixed`.
        device: "cpu", "cuda", "auto" ...
        progress: Told what is being done.

    Raises:
        NotFoundError: If there is no such folder.
        CheckpointError: If it holds no Whisper model.
        FetchError: If the weights cannot be fetched.
        UsageError: If the model does not know the language.
    """
    folder = _folder(name, progress)
    place = pick_device(device)
    whisper = load_whisper(folder, "mixed" if precision == "auto" else precision)
    whisper.model.to(place)
    return Transcriber(whisper, config, progress)


def _folder(name: str | Path, progress: Progress) -> Path:
    if name == DEFAULT:
        return weights(DEFAULT, progress)
    if isinstance(name, str) and name.startswith("hf:"):
        from sensorium.tasks.load import from_hub

        return from_hub(name.removeprefix("hf:"))
    return Path(name)


@dataclass(frozen=True)
class Piece:
    """Ids of one segment and its times from the window's beginning."""

    ids: tuple[int, ...]
    start_s: float
    end_s: float


def split(ids: Sequence[int], first_time: int, num_frames: int) -> tuple[list[Piece], int]:
    """Cut what was written for a window at its pairs of times.

    Args:
        ids: Text and times; from `first_time` on they are times.
        first_time: Id of 0 s.
        num_frames: Frames of the window that are sound.

    Returns:
        The segments, and how many frames are done: all, or up to the last pair where a segment goes on after.

    Example:
        >>> pieces, done = split([100, 7, 110, 110, 8, 120, 120, 9], 100, 3000)
        >>> [(piece.ids, piece.start_s, piece.end_s) for piece in pieces], done
        ([((7,), 0.0, 0.2), ((8,), 0.2, 0.4)], 40)
    """
    is_time = [one >= first_time for one in ids]
    cuts = [place for place in range(1, len(ids)) if is_time[place - 1] and is_time[place]]
    if not cuts:
        times = [one - first_time for one in ids if one > first_time]
        end_s = times[-1] * TIME_STEP_S if times else num_frames / FRAMES_A_SECOND
        return [Piece(_text(ids, is_time), 0.0, end_s)], num_frames
    ends_alone = len(ids) > 1 and is_time[-1] and not is_time[-2]
    edges = [0, *cuts, *([len(ids)] if ends_alone else [])]
    pieces = []
    for begin, end in pairwise(edges):
        times_s = [(ids[place] - first_time) * TIME_STEP_S for place in (begin, end - 1)]
        pieces.append(Piece(_text(ids[begin:end], is_time[begin:end]), *times_s))
    done = num_frames if ends_alone else (ids[cuts[-1] - 1] - first_time) * _FRAMES_A_STEP
    return pieces, min(done or num_frames, num_frames)


def _text(ids: Sequence[int], is_time: Sequence[bool]) -> tuple[int, ...]:
    return tuple(one for one, is_one in zip(ids, is_time, strict=True) if not is_one)


class _Clerk:
    """Hears windows one after another and keeps what was said."""

    def __init__(self, whisper: Whisper, scribe: Scribe, config: TranscribeConfig) -> None:
        self._whisper, self._scribe, self._config = whisper, scribe, config
        self._previous: list[int] = []
        self.segments: list[Segment] = []
        self.text = ""
        self.language = config.language

    def take(self, window: Window, start: int) -> int:
        """Write down a window that begins at frame `start`; return how many frames of it are done."""
        if window.peak < _INAUDIBLE:
            return window.num_real
        with torch.inference_mode():
            memory = self._whisper.model.listen(torch.from_numpy(window.frames)[None])
        draft = self._scribe.write(memory, self.language, self._previous)
        if self._scribe.is_silence(draft):
            return window.num_real
        self.language = self.language or draft.language
        pieces, done = split(draft.ids, self._whisper.vocabulary.first_time, window.num_real)
        self._keep([piece for piece in pieces if piece.end_s > piece.start_s], memory, window, start)
        if not self._config.is_conditioned or draft.temperature > _WARM:
            self._previous = []
        return done

    def _keep(self, pieces: Sequence[Piece], memory: Memory, window: Window, start: int) -> None:
        offset_s = start / FRAMES_A_SECOND
        words = self._words(pieces, memory, window)
        most_s = longest_s([word.end_s - word.start_s for word, _ in words])
        for piece in pieces:
            text = self._whisper.vocabulary.decode(piece.ids)
            end_s = min(piece.end_s, window.num_real / FRAMES_A_SECOND)
            own = without_pause(take_words(words, len(piece.ids)), most_s)
            if not text.strip():
                continue
            line = len(self.segments)
            shifted = [
                replace(
                    word,
                    start_s=round(offset_s + word.start_s, 2),
                    end_s=round(offset_s + word.end_s, 2),
                    confidence=round(word.confidence, 3),
                    line=line,
                )
                for word in own
            ]
            times_s = round(offset_s + piece.start_s, 2), round(offset_s + end_s, 2)
            self.segments.append(Segment(text.strip(), *times_s, tuple(shifted)))
            self.text += text
            self._previous += piece.ids

    def _words(self, pieces: Sequence[Piece], memory: Memory, window: Window) -> deque[tuple[TimedWord, int]]:
        if not self._config.has_words:
            return deque()
        ids = [one for piece in pieces for one in piece.ids]
        return deque(word_times(self._whisper, memory, ids, self.language, window.num_real))


def take_words(words: deque[tuple[TimedWord, int]], num_ids: int) -> list[TimedWord]:
    """Take the words that the next `num_ids` ids make up."""
    taken: list[TimedWord] = []
    while words and num_ids > 0:
        word, size = words.popleft()
        taken.append(word)
        num_ids -= size
    return taken


def _length_s(audio: Path) -> int | None:
    """Length by the file's header, for the progress alone."""
    try:
        duration_s = probe(audio, limits=HOURS_LIMITS).duration_s
    except MediaError:
        return None
    return None if duration_s is None else int(duration_s)
