"""`sensorium align phrases`: find what a text names in an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.options import DeviceOption, ModelOption
from sensorium.cli.output import JsonOption, emit_json, emit_table, note
from sensorium.core.errors import NotFoundError, UsageError


def phrases(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is said of it.")],
    model: ModelOption = None,
    given: Annotated[
        str,
        typer.Option(
            "--phrases",
            metavar="'A;B'",
            help="Parts of the text to look for; its simple noun phrases if not given.",
        ),
    ] = "",
    one_to_one: Annotated[
        bool, typer.Option("--one-to-one", help="Let no two phrases have the same box.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PNG", help="Draw the boxes there.")
    ] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Find the phrases of a text in an image: a box for each, and how sure the model is that it is there.

    The text is cut into simple noun phrases at prepositions, verbs of a fixed English list and punctuation.
    A phrase that is not there has no box. The model is a grounder: sensorium train grounding.
    """
    from sensorium import media
    from sensorium.core.runtime import pick_device
    from sensorium.grounding.predict import find_phrases
    from sensorium.media.path_or_text import file_or_text
    from sensorium.models.checkpoint import load
    from sensorium.models.grounder import Grounder

    if model is None:
        raise NotFoundError("no model given; give --model RUN, trained by: sensorium train grounding")
    if isinstance(file_or_text(text, remedy="put the words in quotes behind IMAGE"), Path):
        raise UsageError(f"'{text}' is a file; give the words that are said of the picture")
    opened = media.open(image)
    if not isinstance(opened, media.Image):
        raise UsageError(f"{image} holds {type(opened).__name__.lower()}; give a picture")
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
