"""`sensorium transcribe`: transcribes recordings, with word times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from sensorium.cli.answering import check_files
from sensorium.cli.options import DeviceOption
from sensorium.cli.output import (
    PARTLY_FAILED,
    JsonOption,
    TerminalProgress,
    emit_json,
    emit_table,
    emit_text,
    note,
)
from sensorium.core.errors import SensoriumError, UsageError

if TYPE_CHECKING:
    from sensorium.assistants.chunked_transcribe import ChunkedTranscriber
    from sensorium.core.runtime import Progress
    from sensorium.speech.transcribe import TranscribeConfig, Transcriber, Transcript


def transcribe(
    audio: Annotated[
        list[Path], typer.Argument(metavar="AUDIO...", help="Sound files, or videos with sound.")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="whisper-tiny.en, a folder with a Whisper, or a trained run.",
        ),
    ] = "whisper-tiny.en",
    language: Annotated[
        str,
        typer.Option("--language", metavar="CODE", help="Such as en; detected from the sound by default."),
    ] = "",
    srt: Annotated[bool, typer.Option("--srt", help="SubRip subtitles.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="WebVTT subtitles.")] = False,
    condition: Annotated[
        bool, typer.Option("--condition", help="Condition each window on the text before it.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="PATH", help="A .txt, .json, .srt, .vtt or .TextGrid file, or a folder."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw the words over one recording.")
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "mixed", "bf16"],
        typer.Option("--precision", help="bf16 is the fastest, on processors that have it."),
    ] = "auto",
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Transcribe speech in AUDIO, with the time of every word.

    --json prints {"text", "segments": [{"start_s", "end_s", "text", "words"}], "language", "duration_s"}; for
    several files a list of these with "uri". Exits 3 if some files could not be read.
    """
    if srt + vtt + json > 1:
        raise UsageError("give one of --json, --srt and --vtt")
    if plot is not None and (len(audio) > 1 or plot.suffix.lower() != ".png"):
        raise UsageError(f"--plot {plot.name}: expected one recording and a name that ends in .png")
    ending = ".srt" if srt else ".vtt" if vtt else ".json" if json else ".txt"
    targets = _targets(audio, output, ending)
    if len(audio) == 1:
        check_files(audio)
    from sensorium.speech.transcribe import TranscribeConfig

    has_words = output is not None or plot is not None or ending != ".txt"
    config = TranscribeConfig(language=language, is_conditioned=condition, has_words=has_words)
    done = _transcribe_all(audio, model, config, device, precision, targets)
    if plot is not None:
        from sensorium.align.plots import draw_words

        draw_words(audio[0], done[audio[0]].timed, plot)
        note(f"wrote {plot}")
    if output is None and (plot is None or ending != ".txt"):
        _print(done, ending, is_one=len(audio) == 1)
    if len(done) < len(audio):
        raise typer.Exit(PARTLY_FAILED if done else 1)


def _targets(audio: list[Path], output: Path | None, ending: str) -> dict[Path, Path]:
    """Output path of each transcript; ambiguous ones are refused before any work."""
    from sensorium.speech.transcript_formats import writer_of

    if output is None:
        if len(audio) > 1 and ending in (".srt", ".vtt"):
            raise UsageError("subtitles of several files cannot share one stream; give -o FOLDER")
        return {}
    if len(audio) == 1 and not output.is_dir() and output.suffix:
        writer_of(output)
        if ending != ".txt" and output.suffix.lower() != ending:
            raise UsageError(f"--{ending[1:]} and -o {output.name} name two formats; give one of them")
        return {audio[0]: output}
    targets = {path: output / f"{path.stem}{ending}" for path in audio}
    if len(set(targets.values())) < len(audio):
        raise UsageError("two files have the same name, and so would their transcripts; run them separately")
    output.mkdir(parents=True, exist_ok=True)
    return targets


def _transcribe_all(
    audio: list[Path],
    model: str,
    config: TranscribeConfig,
    device: str,
    precision: Literal["auto", "fp32", "mixed", "bf16"],
    targets: Mapping[Path, Path],
) -> dict[Path, Transcript]:
    """Transcribe files and write each transcript when it is complete.

    Errors are printed if there are several files, else raised.
    """
    from sensorium.speech.transcript_formats import write_transcript

    done: dict[Path, Transcript] = {}
    with TerminalProgress() as progress:
        transcriber = _opened(model, config, device, precision, progress)
        for path in audio:
            try:
                done[path] = transcriber.transcribe(path, progress=progress)
            except SensoriumError as error:
                if len(audio) == 1:
                    raise
                note(str(error))
                continue
            _warn_of_language(path, done[path])
            if path in targets:
                write_transcript(done[path], targets[path])
                note(f"wrote {targets[path]}")
    return done


def _warn_of_language(path: Path, transcript: Transcript) -> None:
    """Warn if the text is surely in another language, or its confidence is low."""
    from sensorium.core.errors import warn
    from sensorium.data.curation.language import detect_foreign

    found = detect_foreign(transcript.text, [transcript.language] if transcript.language else [])
    if found:
        language = "another language" if found == "und" else f"the language '{found}'"
        warn(
            f"{path}: the speech seems to be in {language}, but was transcribed as '{transcript.language}'; "
            "give a --model that knows it"
        )
    elif transcript.is_doubtful:
        warn(
            f"{path}: most words have a low confidence; if they are wrong, give a --model that knows the "
            f"language spoken (it expected '{transcript.language}')"
        )
    elif not transcript.text and transcript.duration_s:
        note(f"{path}: no words were recognised")


def _opened(
    model: str,
    config: TranscribeConfig,
    device: str,
    precision: Literal["auto", "fp32", "mixed", "bf16"],
    progress: Progress,
) -> Transcriber | ChunkedTranscriber:
    """Load a Whisper, or a multimodal model that was trained to transcribe."""
    from sensorium.assistants.capabilities import is_run
    from sensorium.assistants.chunked_transcribe import ChunkedTranscriber
    from sensorium.assistants.load import load_assistant
    from sensorium.assistants.multimodal_assistant import MultimodalAssistant
    from sensorium.assistants.router import member_for
    from sensorium.speech.transcribe import load_transcriber

    if not is_run(model):
        return load_transcriber(model, config, precision=precision, device=device, progress=progress)
    if device != "cpu" or config.is_conditioned:
        raise UsageError("--device and --condition are for Whisper models; leave them out")
    assistant = cast(MultimodalAssistant, member_for(load_assistant(model, progress=progress), "transcribe"))
    if precision in ("fp32", "bf16"):
        assistant = assistant.with_precision("fp32" if precision == "fp32" else "bf16")
    assistant.prepare("text", progress)
    return ChunkedTranscriber(assistant, config.language)


def _print(done: dict[Path, Transcript], ending: str, *, is_one: bool) -> None:
    from sensorium.speech.transcript_formats import WRITERS, as_json

    if ending == ".json":
        listed = [as_json(transcript) for transcript in done.values()]
        if is_one:
            emit_json(listed[0])
        else:
            emit_json([{"uri": str(path), **one} for path, one in zip(done, listed, strict=True)])
    elif is_one:
        for transcript in done.values():
            emit_text(WRITERS[ending](transcript), end="")
    else:
        emit_table(["file", "text"], [(str(path), one.text) for path, one in done.items()])
