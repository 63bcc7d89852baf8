"""`sensorium align series`: which moment of one recording or video is which moment of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.answering import check_files
from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_pairs, note
from sensorium.core.errors import UsageError


def series(
    a: Annotated[Path, typer.Argument(metavar="A", help="A sound, a video, or numbers (.csv, .npy).")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same at another pace.")],
    by: Annotated[
        str, typer.Option("--by", help="Compare videos by sound or picture; auto: picture.")
    ] = "auto",
    open_begin: Annotated[bool, typer.Option("--open-begin", help="A may begin anywhere in B.")] = False,
    open_end: Annotated[bool, typer.Option("--open-end", help="A may end anywhere in B.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw costs, path and pace.")
    ] = None,
    warp: Annotated[
        Path | None,
        typer.Option(
            "--warp", metavar="FILE", help="Write B on A's clock: .wav, .flac, .ogg, .mp4, .mkv, .npy."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Align two recordings, videos or tables of numbers that run at different paces."""
    from sensorium.align.align_series import which_by

    by_ = which_by(by)
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot.name}: expected a name that ends in .png")
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
        note(f"not compared, for the other file has no column of that name: {found.unpaired}")
    for path in (plot, warp):
        if path is not None:
            note(f"wrote {path}")
    report = found.report()
    if json:
        emit_json(report)
    else:
        emit_pairs({key: value for key, value in report.items() if key != "path"})
