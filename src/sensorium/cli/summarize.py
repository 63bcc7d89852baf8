"""`sensorium summarize`: highlight reel, keyframes, chapters and text of a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sensorium.cli.answering import open_model
from sensorium.cli.options import DeviceOption, ModelOption, load_model
from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_table, note
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.video.captions import Captioner
    from sensorium.video.shots import Detector
    from sensorium.video.summarize import SummaryRequest


def summarize(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the results.")],
    length: Annotated[
        str,
        typer.Option("--length", "-l", metavar="LENGTH", help="Length of the reel: 15%, 30s, 2m30s or 1:30."),
    ] = "15%",
    query: Annotated[
        str | None,
        typer.Option(
            "--query", "-q", metavar="TEXT", help="Prefer shots that match this text; needs --model."
        ),
    ] = None,
    model: ModelOption = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions",
            metavar="TABLE",
            help="Title chapters by the nearest captions of this table; needs --model.",
        ),
    ] = None,
    writer: Annotated[
        str,
        typer.Option("--writer", metavar="NAME", help="Title chapters by a captioning model."),
    ] = "",
    shots: Annotated[
        Literal["plain", "transnet"],
        typer.Option("--shots", help="Shot detector: built-in, or the TransNetV2 network (extra 'shots')."),
    ] = "plain",
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Summarise a video: highlight reel, keyframes, chapters and text.

    Works without a model; with --model, frames are compared by their embeddings, and --query selects matching
    shots. Chapters get titles from --writer, else from --captions, else from measurements. Writes
    reel.mp4, keyframes.png, chapters.vtt, .ffmeta and .json, reel.edl, summary.md and summary.json. --json
    prints {"shots": [...], "chosen": [...], "chapters": [...], "reel": path, ...}.
    """
    from sensorium.video.summarize import summarize as make
    from sensorium.video.summary_files import write_summary

    request = _request(length, query, model, captions, writer, shots, device)
    with TerminalProgress() as progress:
        summary = make(video, request, progress=progress)
        report = write_summary(summary, out, progress=progress)
    if json:
        emit_json(report)
        return
    emit_table(
        ["start", "end", "score", "why"],
        [[one.start_s, one.end_s, one.score, ", ".join(one.reasons)] for one in summary.chosen],
        title=f"{len(summary.shots)} shots, {len(summary.chapters)} chapters",
    )
    note(f"wrote {report['reel']} and, beside it, keyframes, chapters and summary.json")


def _request(
    length: str, query: str | None, run: Path | None, table: Path | None, writer: str, shots: str, device: str
) -> SummaryRequest:
    from sensorium.video.summarize import SummaryRequest

    if run is None and (query is not None or table is not None):
        raise UsageError("--query and --captions compare pictures with words; give --model RUN too")
    model = None if run is None else load_model(run, device)
    captioner: Captioner | None = None
    if table is not None and model is not None:
        from sensorium.data.table.table import Table
        from sensorium.video.captions import NearestCaptioner

        captioner = NearestCaptioner(Table.open(table), model)
    return SummaryRequest(length, query, model, _writer(writer, captioner), _detector(shots, device))


def _writer(name: str, otherwise: Captioner | None) -> Captioner | None:
    """Captioner of chapters: a named model, else the captions of a table, else none.

    The shipped assistant is used only if it is named: it was trained on composed scenes.
    """
    if not name:
        return otherwise
    from sensorium.assistants.ask import AssistantCaptioner

    return AssistantCaptioner(open_model("caption", name), otherwise)


def _detector(name: str, device: str) -> Detector | None:
    if name == "plain":
        return None
    from sensorium.video.transnet import TransNetDetector

    return TransNetDetector(device=device)
