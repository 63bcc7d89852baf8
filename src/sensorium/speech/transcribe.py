"""What is said in a recording, with times; recordings may be hours long.

In: a sound file, or a video with sound. Out: text, in segments with words. A window of 30 s is heard and
written down at a time; the next one begins where the last whole segment of it ended, so that no word is cut.
Memory is that of one window. What Whisper makes of silence, noise and its own repetitions is refused by
measures of the draft (`dictation`), and a window without any sound is not even heard.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sensorium.assistants.assistant import PLAIN as WRITE_PLAIN
from sensorium.assistants.assistant import Generation, Output, Turn, WriteConfig, answer_once
from sensorium.assistants.capabilities import Skills
from sensorium.assistants.transcription import Dictated, the_sound
from sensorium.core.errors import MediaError, UsageError
from sensorium.core.runtime import Progress, pick_device, quiet
from sensorium.data.collections.packages import weights
from sensorium.generation import Guide, Memory
from sensorium.generation import Precision as WritePrecision
from sensorium.generation.request import Choice
from sensorium.media import probe
from sensorium.media.audio_blocks import HOURS_LIMITS, audio_blocks
from sensorium.media.logmel_windows import FRAMES_A_SECOND, FrameWindows, Window
from sensorium.media.timed_text import TimedWord
from sensorium.media.types import Audio
from sensorium.models.pretrained.whisper import Precision, Whisper, load_whisper
from sensorium.models.prompts import TEMPLATES
from sensorium.speech.decode_window import DictationConfig, Scribe
from sensorium.speech.segments import Piece, split, take_words
from sensorium.speech.word_timestamps import longest_s, without_pause, word_times

DEFAULT = "whisper-tiny.en"
RATE_HZ = 16_000
_SENTENCE, _SURE = 8, 0.6
"""Words of a sentence, and the odds below which its transcript is doubtful. Of English sentences in voices of
espeak-ng Whisper tiny.en is sure by .68 to .89, of French, German, Spanish and Chinese ones by .24 to .65;
single words of people cannot be told apart so."""
_INAUDIBLE = -8.0
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
        confidence: Mean odds that the recogniser gave to what it wrote; 1 if they are not known.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str
    duration_s: float
    confidence: float = 1.0

    @property
    def words(self) -> list[TimedWord]:
        """All words; each knows its segment by `line`."""
        return [word for segment in self.segments for word in segment.words]

    @property
    def is_doubtful(self) -> bool:
        """Whether the recogniser was unsure of a sentence or more: of noise, or of another language."""
        return len(self.text.split()) >= _SENTENCE and self.confidence < _SURE

    @property
    def timed(self) -> list[TimedWord]:
        """All words, or where words have no times of their own, whole segments."""
        return self.words or [
            TimedWord(one.text, one.start_s, one.end_s, line=line) for line, one in enumerate(self.segments)
        ]


class Transcriber:
    """A recogniser that is ready for recordings, one after another; as an `Assistant` it answers with text.

    Args:
        whisper: The recogniser.
        config: How it writes.
        name: What it is called in messages.
        progress: Told while machine code is compiled.

    Attributes:
        outputs: ("text",).
        skills: To write down speech.

    Example:
        >>> transcriber = load_transcriber()                     # doctest: +SKIP
        >>> transcriber.transcribe(Path("talk.mp3")).text        # doctest: +SKIP
        'Good morning.'
        >>> transcriber.generate([Path("talk.mp3")]).text        # doctest: +SKIP
        'Good morning.'
    """

    outputs: tuple[Output, ...] = ("text",)
    skills: Skills = MappingProxyType({"transcribe": ()})
    generate = answer_once

    def __init__(
        self,
        whisper: Whisper,
        config: TranscribeConfig = PLAIN,
        *,
        name: str = DEFAULT,
        progress: Progress = quiet,
    ) -> None:
        whisper.vocabulary.opening(config.language)  # a wrong language is told before any work
        self.whisper, self.config, self.name = whisper, config, name
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
        clerk, num_done, length_s = _Clerk(self.whisper, self._scribe, self.config), 0, header_s(audio)
        message = f"listening to {audio.name}"
        progress(0, length_s, message)
        for num_done in self._hear(audio, clerk):
            progress(int(num_done / FRAMES_A_SECOND), length_s, message)
        duration_s = round(num_done / FRAMES_A_SECOND, 2)
        language = clerk.language or "en"
        return Transcript(clerk.text.strip(), tuple(clerk.segments), language, duration_s, clerk.confidence)

    def reply(
        self,
        turns: Sequence[Turn],
        config: WriteConfig = WRITE_PLAIN,
        *,
        to: Output = "text",
        guide: Guide | None = None,
    ) -> Generation:
        """Write down the one sound of the last turn, window by window; see `Assistant.reply`.

        Raises:
            UsageError: If there is no sound or something besides it, or it is to be written in another way.
        """
        sampling = config.sampling
        is_varied = sampling.temperature > 0 or sampling.repetition_penalty != 1
        if to != "text" or guide is not None or config.stops or is_varied:
            raise UsageError(
                f"{self.name} writes down what is said as it judges best: text, no temperature, no form"
            )
        clerk = _Clerk(self.whisper, self._scribe, self.config.model_copy(update={"has_words": False}))
        steps = self._hear(the_sound(turns[-1].parts, self.name), clerk)
        return Generation(Dictated(steps, clerk, config.max_tokens, self.whisper.vocabulary.decode))

    def fits(self, text: str, to: Output = "text") -> bool:
        """Whether a text is read to its end: the instruction to write speech down, which says nothing new."""
        return text == TEMPLATES["transcribe"]

    def prepare(self, to: Output = "text", progress: Progress = quiet) -> None:
        """Build what writes; a `Transcriber` is made with it."""

    def with_precision(self, precision: WritePrecision) -> Transcriber:
        """The same; precision is chosen where it is loaded.

        Raises:
            UsageError: If 8 or 4 bits are asked for.
        """
        if precision in ("int8", "int4"):
            raise UsageError(f"{self.name} does not write with weights in {precision}; take bf16")
        return self

    def logits(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Score every id as the next one, without anything heard."""
        return self.whisper.model.decoder.score(ids)

    def _hear(self, sound: Path | Audio, clerk: _Clerk) -> Iterator[int]:
        """Let every window be written down; yields how many frames are done."""
        model = self.whisper.model
        heard = audio_blocks(sound) if isinstance(sound, Path) else iter([sound.mono(RATE_HZ)])
        # Whisper was trained on 16-bit samples, which do not go beyond 1.
        blocks = (np.clip(block, -1, 1) for block in heard)
        windows, start = FrameWindows(blocks, model.config.encoder.num_mels, model.window_frames), 0
        while (window := windows.window(start)).num_real:
            start += clerk.take(window, start)
            yield start


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
    return Transcriber(whisper, config, name=Path(name).name, progress=progress)


def _folder(name: str | Path, progress: Progress) -> Path:
    if name == DEFAULT:
        return weights(DEFAULT, progress)
    if isinstance(name, str) and name.startswith("hf:"):
        from sensorium.assistants.load import from_hub

        return from_hub(name.removeprefix("hf:"))
    return Path(name)


class _Clerk:
    """Hears windows one after another and keeps what was said."""

    def __init__(self, whisper: Whisper, scribe: Scribe, config: TranscribeConfig) -> None:
        self._whisper, self._scribe, self._config = whisper, scribe, config
        self._previous: list[int] = []
        self.segments: list[Segment] = []
        self.choices: list[Choice] = []
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
        first_time = self._whisper.vocabulary.first_time
        pieces, done = split(draft.ids, first_time, window.num_real)
        written = zip(draft.ids, draft.logprobs, strict=True)
        texts = iter([Choice(one, logprob) for one, logprob in written if one < first_time])
        kept = [(piece, list(islice(texts, len(piece.ids)))) for piece in pieces]
        kept = [(piece, choices) for piece, choices in kept if piece.end_s > piece.start_s]
        self.choices += [choice for _, choices in kept for choice in choices]
        self._keep([piece for piece, _ in kept], memory, window, start)
        if not self._config.is_conditioned or draft.temperature > _WARM:
            self._previous = []
        return done

    @property
    def confidence(self) -> float:
        """Mean odds of the ids of the text."""
        odds = [math.exp(choice.logprob) for choice in self.choices]
        return sum(odds) / len(odds) if odds else 1.0

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


def header_s(audio: Path) -> int | None:
    """Length by the file's header, for the progress alone."""
    try:
        duration_s = probe(audio, limits=HOURS_LIMITS).duration_s
    except MediaError:
        return None
    return None if duration_s is None else int(duration_s)
