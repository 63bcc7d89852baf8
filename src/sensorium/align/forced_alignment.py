"""Forced alignment: finds when each word of a text is said in a sound file or video of any length.

Without a model, espeak-ng synthesizes the text and the recording is warped onto it (`synthetic_speech`). With
saved emissions of a CTC recogniser, the words are aligned to those (`ctc`). Sound is processed in blocks; an
hour takes about 300 MB more than a few minutes.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sensorium.align.ctc import WordSpan, ctc_align, spell
from sensorium.align.mfcc import FRAMES_A_SECOND, RATE_HZ, AudioFeatures, audio_features, silence
from sensorium.align.synthetic_speech import Script
from sensorium.align.synthetic_speech import align_speech as warp
from sensorium.align.text_lines import Line, split_lines
from sensorium.core.errors import MediaError, NotFoundError, UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections import espeak
from sensorium.data.curation.language import detect_language
from sensorium.media import Audio, Limits, Text
from sensorium.media import open as open_media
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.path_or_text import file_or_text
from sensorium.media.timed_text import TimedWord

DEFAULT_LANGUAGE = "en"
_SLOWEST_WPM, _FASTEST_WPM = 110, 300
_TEXT_BYTES = 8 << 20


def align_speech(
    audio: Path,
    text: str | Path,
    *,
    language: str = "",
    emissions: Path | None = None,
    progress: Progress = quiet,
) -> list[TimedWord]:
    """Find when each word of `text` is said in `audio`.

    Args:
        audio: A sound file, or a video with sound.
        text: The words, or a text file that holds them.
        language: BCP 47 tag; empty: detected from the text, or English where that fails.
        emissions: A `.npz` file with CTC emissions for `audio`, see `read_emissions`. Without it, espeak-ng
            synthesizes the text.
        progress: Told what is being done.

    Raises:
        NotFoundError: If a file is not there.
        MediaError: If there is no sound in `audio`, or nothing but silence.
        UsageError: If there are no words, more words than the sound has room for, or no such language.
        FetchError: If espeak-ng cannot be fetched.
    """
    lines = split_lines(read_text(text))
    if not lines:
        raise UsageError("no words to align; give a text, or a file with one")
    if emissions is not None:
        spans, frames_a_second = _by_emissions(lines, emissions)
    else:
        spans, frames_a_second = _by_synthesis(audio, lines, language or guess_language(text)[0], progress)
    words = [(word.text, number) for number, line in enumerate(lines) for word in line.words]
    return [
        TimedWord(
            word,
            round(span.start / frames_a_second, 3),
            round(span.stop / frames_a_second, 3),
            round(span.confidence, 3),
            number,
        )
        for (word, number), span in zip(words, spans, strict=True)
    ]


def read_text(text: str | Path) -> str:
    """Read a text file (MediaError if it is none); a `str` is returned as it is."""
    if isinstance(text, str):
        return text
    found = open_media(text, limits=Limits(text_bytes=_TEXT_BYTES))
    if not isinstance(found, Text):
        raise MediaError(f"{text}: {type(found).__name__.lower()}, expected a text file")
    return found.text


def text_argument(argument: str) -> str | Path:
    """Interpret the command-line argument TEXT: a path if it is a file or named like one, else words.

    Raises:
        UsageError: If it looks like a path (see `media.path_or_text`), and no such file is there.

    Example:
        >>> text_argument("a frog"), text_argument("frog.txt").name
        ('a frog', 'frog.txt')
    """
    is_name = argument.lower().endswith((".txt", ".md")) and " " not in argument.strip()
    return Path(argument) if is_name else file_or_text(argument, remedy="put the words into a .txt file")


def guess_language(text: str | Path) -> tuple[str, bool]:
    """The detected language of a text and True, or English and False if it is unknown.

    Example:
        >>> guess_language("die Katze und der Hund"), guess_language("42")
        (('de', True), ('en', False))
    """
    found = detect_language(read_text(text))
    return found or DEFAULT_LANGUAGE, bool(found)


def read_emissions(path: Path) -> tuple[Float32[np.ndarray, "T V"], list[str], float, int, int | None]:
    """Read the emissions of a CTC recogniser.

    The archive (`numpy.savez`) holds `log_probs` (T, V), normalised; `labels`, V strings, one character each
    where they spell; `frame_s`, seconds from one row to the next; and, where they are not 0 and none,
    `blank`, the number of the blank, and `separator`, that of the label between words.

    Returns:
        Log-probabilities, labels, seconds a frame, the blank, the separator.

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If it is not such an archive.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}; give a .npz file with log_probs, labels and frame_s")
    try:
        with np.load(path, allow_pickle=False) as archive:
            log_probs = np.asarray(archive["log_probs"], np.float32)
            labels = [str(label) for label in archive["labels"]]
            frame_s = float(archive["frame_s"])
            blank = int(archive["blank"]) if "blank" in archive else 0
            separator = int(archive["separator"]) if "separator" in archive else None
    except (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path}: {error}; expected a .npz file with log_probs, labels and frame_s"
        ) from error
    if log_probs.ndim != 2 or log_probs.shape[1] != len(labels) or not frame_s > 0:
        raise UsageError(
            f"{path}: log_probs {log_probs.shape}, {len(labels)} labels, frame_s={frame_s:g}; "
            "expected (T, V), V labels and a positive frame_s"
        )
    return log_probs, labels, frame_s, blank, separator


def _by_emissions(lines: list[Line], path: Path) -> tuple[list[WordSpan], float]:
    log_probs, labels, frame_s, blank, separator = read_emissions(path)
    usable = ["" if place in (blank, separator) else label for place, label in enumerate(labels)]
    words = spell([word.text for line in lines for word in line.words], usable)
    return ctc_align(log_probs, words, blank=blank, separator=separator).words, 1 / frame_s


def _by_synthesis(
    audio: Path, lines: list[Line], language: str, progress: Progress
) -> tuple[list[WordSpan], float]:
    espeak.prepare(progress)
    progress(0, None, f"listening to {audio.name}")
    try:
        recording = audio_features(audio_blocks(audio), tell_speech=True)
        progress(0, None, f"speaking {len(lines):,} lines ({language})")
        script = synthesize_script(lines, language, espeak.DEFAULT_WPM)
        active_frames = int((silence(recording.level_db) < 0.5).sum())
        pace = int((script.word_of >= 0).sum()) / max(active_frames, 1)
        wanted_wpm = int(np.clip(espeak.DEFAULT_WPM * pace, _SLOWEST_WPM, _FASTEST_WPM))
        if abs(wanted_wpm - espeak.DEFAULT_WPM) > 10:
            script = synthesize_script(lines, language, wanted_wpm)
        progress(0, None, "aligning")
        return warp(recording, script), float(FRAMES_A_SECOND)
    except UsageError as error:
        kind = MediaError if "silent" in str(error) else UsageError
        raise kind(f"{audio}: {error}") from error


def synthesize_script(lines: list[Line], language: str, words_per_minute: int) -> Script:
    """Synthesize each line by espeak-ng; returns its features with the word of each frame."""
    mels, levels, marks = [], [], []
    done = 0
    for line in lines:
        features, word_of = _synthesize_line(line, language, words_per_minute)
        mels.append(features.mels)
        levels.append(features.level_db)
        marks.append(np.where(word_of >= 0, word_of + done, -1))
        done += len(line.words)
    stops = [word.stop for line in lines for word in line.words]
    return Script(AudioFeatures(np.concatenate(mels), np.concatenate(levels)), np.concatenate(marks), stops)


def _synthesize_line(line: Line, language: str, words_per_minute: int) -> tuple[AudioFeatures, np.ndarray]:
    """Features of a line, and the word of each frame, -1 in a pause."""
    speech = espeak.speak(line.text, language, words_per_minute=words_per_minute)
    samples = speech.samples if len(speech.samples) else np.zeros(speech.rate_hz // 10, np.float32)
    features = audio_features(
        [np.pad(Audio(samples[:, None], speech.rate_hz).mono(RATE_HZ), (0, RATE_HZ // 50))]
    )
    word_of = np.full(len(features), -1)
    places = [word.place for word in line.words]
    for spoken in speech.words:
        word = int(np.searchsorted(places, spoken.place, side="right")) - 1
        start = int(spoken.start_s * FRAMES_A_SECOND)
        stop = max(round(spoken.stop_s * FRAMES_A_SECOND), start + 1)
        if 0 <= word and word >= word_of.max():
            word_of[start:stop] = np.where(word_of[start:stop] < 0, word, word_of[start:stop])
    return features, word_of
