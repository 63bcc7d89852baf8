"""`sensorium quickstart`: fetches data, trains and evaluates a model, and searches, by one command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, emit_table, emit_text, note

if TYPE_CHECKING:
    from sensorium.search.quickstart import Quickstart


def quickstart(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the run and the sheet go.")
    ] = Path("quickstart"),
    json: JsonOption = False,
) -> None:
    """Fetch real data, train, measure and search, in minutes on a laptop.

    Fetches 785 stamps with captions, sounds and spoken captions (330 MB with the pretrained encoders),
    trains a joint embedding on four fifths of the captions, evaluates it on the others, and draws the results
    of six queries by text, sound, speech and image on one sheet. A second run reuses data and model.
    """
    from sensorium.search.quickstart import is_finished
    from sensorium.search.quickstart import quickstart as run_quickstart

    if is_finished(out):
        note(f"{out} contains a trained model; it is evaluated and searched again")
    start = time.monotonic()
    with TerminalProgress() as progress:
        done = run_quickstart(out, progress=progress)
    seconds = time.monotonic() - start
    if json:
        emit_json(_plain(done, seconds))
    else:
        _print(done, seconds)


def _plain(done: Quickstart, seconds: float) -> dict[str, object]:
    searches = [
        {
            "query": one.words,
            "hits": [
                {"id": hit.id, "score": hit.score, "uri": hit.uri, "texts": hit.texts} for hit in one.hits
            ],
        }
        for one in done.searches
    ]
    return {
        "table": str(done.table.path),
        "run": str(done.run),
        "n": done.report.num_rows,
        "metrics": done.report.metrics,
        "searches": searches,
        "sheet": str(done.sheet),
        "page": str(done.page),
        "seconds": round(seconds, 1),
    }


def _print(done: Quickstart, seconds: float) -> None:
    from sensorium.cli.evaluate import print_report

    print_report(done.report)
    rows = [
        (one.words, "; ".join(hit.texts.get("en", hit.uri) for hit in one.hits[:3])) for one in done.searches
    ]
    emit_table(["query", "best hits"], rows, "Six queries over all rows")
    emit_text(f"sheet  {done.sheet}\npage   {done.page}")
    note(f"done in {seconds:.0f} s; look at {done.sheet}, then try:")
    note(f"  sensorium search {done.table.path} a blue fish - blue + red --sheet found.png")
    note(f"  sensorium classify YOUR_PICTURE.jpg --labels 'a cat,a dog,a car' --model {done.run}")
    note("  sensorium data prepare YOUR_FOLDER -o yours.lance")
    note(
        f"  sensorium embed yours.lance --model {done.run}; sensorium search yours.lance 'what you look for'"
    )
