"""`sensorium speak`: text to speech."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli import options
from sensorium.cli.answering import open_model, read_words
from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_text, note
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.assistants.synthesize import Speech
    from sensorium.media.types import Audio


_STDOUT = Path("-")


def speak(
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FILE", help="A .wav, .flac or .ogg file; - streams a WAV to stdout."
        ),
    ],
    text: options.WordsArgument = None,
    model: options.TaughtModelOption = "",
    max_tokens: options.MaxTokensOption = 500,
    temperature: options.TemperatureOption = 0.7,
    seed: options.SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Read a text aloud, sentence after sentence.

    With -o - the sound is streamed while it is generated: sensorium speak "..." -o - | aplay. --json prints
    {"path", "duration_s", "first_s", "tokens", "seconds"}; first_s is the time to the first sound.
    """
    from sensorium.assistants.assistant import write_config
    from sensorium.assistants.synthesize import Speech
    from sensorium.media.encoding import SOUND_FORMATS, check_target, write_medium

    words = read_words(text, "nothing to speak; give a text")
    if out == _STDOUT and json:
        raise UsageError("--json and -o - both write to stdout; give -o FILE")
    if out != _STDOUT:
        check_target(out, SOUND_FORMATS)
    assistant = open_model("speak", model)
    start = time.perf_counter()
    speech = Speech(assistant, words, write_config(max_tokens, temperature, seed))
    if out == _STDOUT:
        _play(speech)
    else:
        sound = _whole(speech)
        write_medium(sound, out)
        if json:
            heard = {"duration_s": round(sound.duration_s, 3), "first_s": round(speech.first_s, 3)}
            seconds = round(time.perf_counter() - start, 3)
            emit_json({"path": str(out), **heard, "tokens": speech.num_ids, "seconds": seconds})
        else:
            emit_text(str(out))
    if speech.is_cut:
        note("(a sentence was cut; --max-tokens allows more)")


def _whole(speech: Speech) -> Audio:
    from sensorium.assistants.synthesize import joined

    pieces: list[Audio] = []
    with TerminalProgress() as progress:
        for piece in speech:
            pieces.append(piece)
            progress(int(sum(one.duration_s for one in pieces)), None, "speaking (seconds)")
    return joined(pieces)


def _play(speech: Speech) -> None:
    from sensorium.media.encoding import wav_header, wav_samples

    is_first = True
    for piece in speech:
        if is_first:
            sys.stdout.buffer.write(wav_header(piece.sample_rate_hz))
        is_first = False
        sys.stdout.buffer.write(wav_samples(piece.samples))
        sys.stdout.buffer.flush()
