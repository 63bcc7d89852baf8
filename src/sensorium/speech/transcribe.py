"""Transcribes recordings of any length with Whisper: text in segments, with word times.

The recording is read in windows of 30 s. A window is encoded and decoded (`decode_window`), then cut into
segments by its time tokens (`segments`). The next window begins where the last complete segment ended, so no
word is cut. Windows without any sound are skipped; hallucinated and repeated text is rejected by
`decode_window`. Memory is that of one window.

Reference: arXiv:2212.04356, section 4.5.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from sensorium.core.errors import MediaError
from sensorium.core.runtime import Progress, pick_device, quiet
from sensorium.data.collections.packages import weights
from sensorium.generation import Memory
from sensorium.generation.request import Choice
from sensorium.media import probe
from sensorium.media.audio_blocks import HOURS_LIMITS, audio_blocks
from sensorium.media.logmel import FRAMES_A_SECOND, FrameWindows, Window
from sensorium.media.timed_text import TimedWord
from sensorium.media.types import Audio
from sensorium.models.pretrained import hub
from sensorium.models.pretrained.whisper import Precision, Whisper, load_whisper
from sensorium.speech.decode_window import DecodingConfig, WindowDecoder
from sensorium.speech.segments import TimedIds, split, take_words
from sensorium.speech.word_timestamps import longest_s, without_pause, word_times

DEFAULT = "whisper-tiny.en"
RATE_HZ = 16_000
_MIN_DOUBTFUL_WORDS, _DOUBTFUL_CONFIDENCE = 8, 0.6
"""A transcript of so many words is doubtful below this confidence. On sentences spoken by espeak-ng,
Whisper tiny.en has .68 to .89 for English and .24 to .65 for French, German, Spanish and Chinese. Shorter
texts do not separate."""
_SILENT_LOG_MEL = -8.0
_MAX_CONDITION_TEMPERATURE = 0.5
"""Text sampled at a higher temperature is not given to the next window as context."""


class TranscribeConfig(DecodingConfig):
    """How a recording is transcribed.

    Attributes:
        language: Code of the spoken language; empty: a multilingual model detects it.
        is_conditioned: Whether the decoder is given the text of earlier windows. This keeps spelling and
            style, but also repeats errors.
        has_words: Whether words are timed.
    """

    language: str = ""
    is_conditioned: bool = False
    has_words: bool = True


PLAIN = TranscribeConfig()


@dataclass(frozen=True)
class Segment:
    """About a sentence.

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
    """The text of a recording.

    Attributes:
        text: The whole text.
        segments: Its parts, in order of time.
        language: Code of the spoken language.
        duration_s: Length of the recording.
        confidence: Mean probability of the text's tokens; 1 if it is not known.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str
    duration_s: float
    confidence: float = 1.0

    @property
    def words(self) -> list[TimedWord]:
        """All words; `line` is the number of the word's segment."""
        return [word for segment in self.segments for word in segment.words]

    @property
    def is_doubtful(self) -> bool:
        """Whether the text is long enough to judge and has a low confidence: noise, or another language."""
        return len(self.text.split()) >= _MIN_DOUBTFUL_WORDS and self.confidence < _DOUBTFUL_CONFIDENCE

    @property
    def timed(self) -> list[TimedWord]:
        """All words; whole segments where words have no times."""
        return self.words or [
            TimedWord(one.text, one.start_s, one.end_s, line=line) for line, one in enumerate(self.segments)
        ]


class Transcriber:
    """A loaded Whisper that transcribes recordings, one after another.

    Args:
        whisper: The model.
        config: How to transcribe.
        progress: Told while kernels are compiled.

    Raises:
        UsageError: If the model does not know the language.

    Example:
        >>> transcriber = load_transcriber()                     # doctest: +SKIP
        >>> transcriber.transcribe(Path("talk.mp3")).text        # doctest: +SKIP
        'Good morning.'
    """

    def __init__(
        self, whisper: Whisper, config: TranscribeConfig = PLAIN, progress: Progress = quiet
    ) -> None:
        whisper.vocabulary.opening(config.language)  # raises before any work
        self.whisper, self.config = whisper, config
        self._decoder = WindowDecoder(whisper, config, progress)

    def transcribe(self, audio: Path, *, progress: Progress = quiet) -> Transcript:
        """Transcribe a file.

        Args:
            audio: A sound file, or a video with sound.
            progress: Told how many seconds are done.

        Raises:
            NotFoundError: If there is no such file.
            MediaError: If there is no sound in it.
        """
        running, num_done, length_s = self.start(audio), 0, header_s(audio)
        message = f"transcribing {audio.name}"
        progress(0, length_s, message)
        for num_done in running:
            progress(int(num_done / FRAMES_A_SECOND), length_s, message)
        return running.transcript(round(num_done / FRAMES_A_SECOND, 2))

    def start(self, sound: Path | Audio, *, has_words: bool | None = None) -> RunningTranscript:
        """Begin a transcript; nothing is read before it is iterated over.

        Args:
            sound: A file, or an opened sound.
            has_words: Whether words are timed; None: as the configuration says.
        """
        config = self.config if has_words is None else self.config.model_copy(update={"has_words": has_words})
        return RunningTranscript(self.whisper, self._decoder, config, sound)


def load_transcriber(
    name: str | Path = DEFAULT,
    config: TranscribeConfig = PLAIN,
    *,
    precision: Literal["auto"] | Precision = "auto",
    device: str = "cpu",
    progress: Progress = quiet,
) -> Transcriber:
    """Load a Whisper.

    Args:
        name: "whisper-tiny.en", fetched on first use; a folder with a Whisper of any size; `hf:OWNER/NAME`.
        config: How to transcribe.
        precision: `mixed` (only the decoder in bfloat16) gives the text of `fp32`. `bf16` is half as fast
            again on processors with bfloat16 products, and changes a word now and then. `auto` is `mixed`.
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
    if isinstance(name, str) and name.startswith(hub.PREFIX):
        return hub.from_hub(name)
    return Path(name)


class RunningTranscript:
    """A transcript in the making. Each step of its iterator decodes a window and yields the frames done.

    Args:
        whisper: The model.
        decoder: Decodes each window.
        config: How to transcribe.
        sound: What to transcribe.

    Attributes:
        segments: Segments so far.
        choices: Tokens of the text so far.
        text: Text so far; it begins with a space.
        language: Its code; empty until it is known.
    """

    def __init__(
        self, whisper: Whisper, decoder: WindowDecoder, config: TranscribeConfig, sound: Path | Audio
    ) -> None:
        self._whisper, self._decoder, self._config, self._sound = whisper, decoder, config, sound
        self._previous: list[int] = []
        self.segments: list[Segment] = []
        self.choices: list[Choice] = []
        self.text = ""
        self.language = config.language

    def __iter__(self) -> Iterator[int]:
        model, sound = self._whisper.model, self._sound
        read = audio_blocks(sound) if isinstance(sound, Path) else iter([sound.mono(RATE_HZ)])
        # Whisper was trained on 16-bit samples, which do not go beyond 1.
        blocks = (np.clip(block, -1, 1) for block in read)
        windows, start = FrameWindows(blocks, model.config.encoder.num_mels, model.window_frames), 0
        while (window := windows.window(start)).num_real:
            start += self._decode(window, start)
            yield start

    def transcript(self, duration_s: float) -> Transcript:
        """The transcript so far."""
        odds = [math.exp(choice.logprob) for choice in self.choices]
        confidence = sum(odds) / len(odds) if odds else 1.0
        language = self.language or "en"
        return Transcript(self.text.strip(), tuple(self.segments), language, duration_s, confidence)

    def _decode(self, window: Window, start: int) -> int:
        """Decode a window that begins at frame `start`; return how many of its frames are done."""
        if window.peak < _SILENT_LOG_MEL:
            return window.num_real
        with torch.inference_mode():
            memory = self._whisper.model.encode(torch.from_numpy(window.frames)[None])
        found = self._decoder.decode(memory, self.language, self._previous)
        if self._decoder.is_silence(found):
            return window.num_real
        self.language = self.language or found.language
        first_time = self._whisper.vocabulary.first_time
        pieces, done = split(found.ids, first_time, window.num_real)
        written = zip(found.ids, found.logprobs, strict=True)
        texts = iter([Choice(one, logprob) for one, logprob in written if one < first_time])
        kept = [(piece, list(islice(texts, len(piece.ids)))) for piece in pieces]
        kept = [(piece, choices) for piece, choices in kept if piece.end_s > piece.start_s]
        self.choices += [choice for _, choices in kept for choice in choices]
        self._add_segments([piece for piece, _ in kept], memory, window, start)
        if not self._config.is_conditioned or found.temperature > _MAX_CONDITION_TEMPERATURE:
            self._previous = []
        return done

    def _add_segments(self, pieces: Sequence[TimedIds], memory: Memory, window: Window, start: int) -> None:
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

    def _words(
        self, pieces: Sequence[TimedIds], memory: Memory, window: Window
    ) -> deque[tuple[TimedWord, int]]:
        if not self._config.has_words:
            return deque()
        ids = [one for piece in pieces for one in piece.ids]
        return deque(word_times(self._whisper, memory, ids, self.language, window.num_real))


def header_s(audio: Path) -> int | None:
    """Length in the file's header, for the progress bar; None if it is not known."""
    try:
        duration_s = probe(audio, limits=HOURS_LIMITS).duration_s
    except MediaError:
        return None
    return None if duration_s is None else int(duration_s)
