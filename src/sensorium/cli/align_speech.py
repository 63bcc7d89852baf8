"""`sensorium align speech`: when each word of a text is said in a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.answering import check_files
from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_table, note
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.media.timed_text import TimedWord


def speech(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="A sound file, or a video with sound.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is said: a text file, or the words.")],
    language: Annotated[
        str,
        typer.Option(
            "--language", metavar="CODE", help="Such as en or pt-BR; told from the text if not given."
        ),
    ] = "",
    emissions: Annotated[
        Path | None,
        typer.Option(
            "--emissions", metavar="NPZ", help="What a CTC recogniser heard, instead of a synthesiser."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write .srt, .vtt, .TextGrid, .txt (Audacity) or .json."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw the words over the recording.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Find when each word of TEXT is said in AUDIO.

    No model is needed: a synthesiser speaks the text, and the recording is warped onto that. Confidence is 0
    where the words fit no better than any others.
    """
    from sensorium.align.forced_alignment import align_speech, guess_language, text_argument
    from sensorium.media.timed_text import as_json, writer_of

    if output is not None:
        writer_of(output)
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot.name}: expected a name that ends in .png")
    check_files([audio if emissions is None else emissions])
    source = text_argument(text)
    if not language and emissions is None:
        language, is_sure = guess_language(source)
        note(
            f"language: {language}"
            + ("" if is_sure else " (not told by the text; give --language if it is not)")
        )
    with TerminalProgress() as progress:
        words = align_speech(audio, source, language=language, emissions=emissions, progress=progress)
    _write(audio, words, output, plot)
    if json:
        emit_json(as_json(words))
    elif output is None and plot is None:
        emit_table(
            ["word", "start_s", "end_s", "confidence"],
            [(word.word, word.start_s, word.end_s, word.confidence) for word in words],
        )


def _write(audio: Path, words: list[TimedWord], output: Path | None, plot: Path | None) -> None:
    if output is not None:
        from sensorium.media.timed_text import write_words

        write_words(words, output)
        note(f"wrote {output}: {len(words)} words")
    if plot is not None:
        from sensorium.align.plots import draw_words

        draw_words(audio, words, plot)
        note(f"wrote {plot}")
