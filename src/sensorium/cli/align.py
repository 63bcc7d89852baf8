"""`sensorium align`: aligns two recordings or videos, words with speech, phrases with image regions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.answering import check_files
from sensorium.cli.options import DeviceOption, ModelOption
from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_pairs, emit_table, note
from sensorium.core.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from sensorium.media.timed_text import TimedWord

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def align() -> None:
    """Align two recordings or videos, words to speech, phrases to regions of an image."""


@app.command()
def phrases(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A description of it.")],
    model: ModelOption = None,
    given: Annotated[
        str,
        typer.Option(
            "--phrases",
            metavar="'A;B'",
            help="Phrases of the text to find; by default its simple noun phrases.",
        ),
    ] = "",
    one_to_one: Annotated[
        bool, typer.Option("--one-to-one", help="Assign each box to one phrase only.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PNG", help="Write the image with the boxes.")
    ] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Find the phrases of a text in an image: a box for each, and the confidence that it is there.

    The text is split into simple noun phrases at prepositions, punctuation and a fixed list of English verbs.
    A phrase that is not in the image has no box. The model is a grounder: sensorium train grounding.
    """
    from sensorium import media
    from sensorium.core.runtime import pick_device
    from sensorium.grounding.predict import find_phrases
    from sensorium.media.path_or_text import file_or_text
    from sensorium.models.checkpoint import load
    from sensorium.models.grounder import Grounder

    if model is None:
        raise NotFoundError("no model given; give --model RUN, trained by: sensorium train grounding")
    if isinstance(file_or_text(text, remedy="put the words in quotes after IMAGE"), Path):
        raise UsageError(f"'{text}' is a file; give a text that describes the image")
    opened = media.open(image)
    if not isinstance(opened, media.Image):
        raise UsageError(f"{image} holds {type(opened).__name__.lower()}; give an image")
    grounder = load(model, Grounder).to(pick_device(device))
    wanted = [part for part in given.split(";") if part.strip()]
    found = find_phrases(grounder, opened, text, wanted, one_to_one=one_to_one)
    rows = [one.as_dict() for one in found]
    if out is not None:
        from sensorium.grounding.draw import draw_boxes

        draw_boxes(opened, found).save(out)
        note(f"drawn: {out}")
    if json:
        emit_json(rows)
    else:
        shown = [(row["phrase"], row["score"], row["box"] or "not there") for row in rows]
        emit_table(["phrase", "score", "box"], shown)


@app.command()
def series(
    a: Annotated[Path, typer.Argument(metavar="A", help="A recording, a video, or numbers (.csv, .npy).")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same at another tempo.")],
    by: Annotated[
        str, typer.Option("--by", help="Compare videos by sound or picture; auto: picture.")
    ] = "auto",
    open_begin: Annotated[bool, typer.Option("--open-begin", help="A may start anywhere in B.")] = False,
    open_end: Annotated[bool, typer.Option("--open-end", help="A may end anywhere in B.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw costs, path and tempo ratio.")
    ] = None,
    warp: Annotated[
        Path | None,
        typer.Option(
            "--warp", metavar="FILE", help="Write B in the time of A: .wav, .flac, .ogg, .mp4, .mkv, .npy."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Align two recordings, videos or tables of numbers of different tempo (dynamic time warping)."""
    from sensorium.align.align_series import which_by

    by_ = which_by(by)
    _check_plot(plot)
    check_files([a, b])
    from sensorium.align.align_series import align_series

    with TerminalProgress() as progress:
        found = align_series(a, b, by=by_, open_begin=open_begin, open_end=open_end, progress=progress)
        if warp is not None:
            from sensorium.align.time_stretch import write_warped

            write_warped(found, warp, progress)
        if plot is not None:
            from sensorium.align.plots import draw_alignment

            draw_alignment(found, plot)
    if found.unpaired:
        note(f"columns without a counterpart in the other file were ignored: {found.unpaired}")
    for path in (plot, warp):
        if path is not None:
            note(f"wrote {path}")
    report = found.report()
    if json:
        emit_json(report)
    else:
        emit_pairs({key: value for key, value in report.items() if key != "path"})


@app.command()
def speech(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="A sound file, or a video with sound.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The words of the recording, or a text file.")],
    language: Annotated[
        str,
        typer.Option(
            "--language", metavar="CODE", help="Such as en or pt-BR; detected from the text by default."
        ),
    ] = "",
    emissions: Annotated[
        Path | None,
        typer.Option(
            "--emissions", metavar="NPZ", help="Emissions of a CTC recogniser, used instead of a synthesiser."
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
    """Find when each word of TEXT is spoken in AUDIO (forced alignment).

    Needs no model: a synthesiser speaks the text, and the recording is aligned with it. Confidence is 0 where
    the words fit no better than any others.
    """
    from sensorium.align.forced_alignment import align_speech, guess_language, text_argument
    from sensorium.media.timed_text import as_json, writer_of

    if output is not None:
        writer_of(output)
    _check_plot(plot)
    check_files([audio if emissions is None else emissions])
    source = text_argument(text)
    if not language and emissions is None:
        language, is_sure = guess_language(source)
        note(f"language: {language}" + ("" if is_sure else " (uncertain; if it is wrong, give --language)"))
    with TerminalProgress() as progress:
        words = align_speech(audio, source, language=language, emissions=emissions, progress=progress)
    _write_words(audio, words, output, plot)
    if json:
        emit_json(as_json(words))
    elif output is None and plot is None:
        emit_table(
            ["word", "start_s", "end_s", "confidence"],
            [(word.word, word.start_s, word.end_s, word.confidence) for word in words],
        )


def _write_words(audio: Path, words: list[TimedWord], output: Path | None, plot: Path | None) -> None:
    if output is not None:
        from sensorium.media.timed_text import write_words

        write_words(words, output)
        note(f"wrote {output}: {len(words)} words")
    if plot is not None:
        from sensorium.align.plots import draw_words

        draw_words(audio, words, plot)
        note(f"wrote {plot}")


def _check_plot(plot: Path | None) -> None:
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot.name}: expected a name that ends in .png")
