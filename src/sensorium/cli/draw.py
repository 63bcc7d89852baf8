"""`sensorium draw`: generates an image from a text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.answering import open_model, read_words
from sensorium.cli.options import SeedOption, TaughtModelOption, TemperatureOption, WordsArgument
from sensorium.cli.output import JsonOption, emit_json, emit_text, note
from sensorium.core.errors import UsageError

_USUAL = 8


def draw(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="A .png, .jpg or .webp file.")],
    text: WordsArgument = None,
    model: TaughtModelOption = "",
    temperature: TemperatureOption = 1.0,
    seed: SeedOption = 0,
    best_of: Annotated[
        int | None,
        typer.Option(
            "--best-of",
            metavar="N",
            min=1,
            help="Draw N images and keep the best by --judge; default 8 for the shipped model, else 1.",
        ),
    ] = None,
    judge: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Model that ranks the images by the likelihood of the text; default: the model of `ask`.",
        ),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Draw an image from a text.

    Other seeds give other images. With --best-of, images of consecutive seeds are drawn, and the one for
    which the judge gives the text the highest likelihood is kept. --json prints {"path", "width_px",
    "height_px", "tokens", "seconds"}.
    """
    from sensorium.assistants.ask import ask, can_rerank
    from sensorium.assistants.ask import best_of as draw_best
    from sensorium.assistants.assistant import write_config
    from sensorium.assistants.capabilities import first_model, is_shipped
    from sensorium.media.encoding import PICTURE_FORMATS, check_target, write_medium

    if judge and best_of == 1:
        raise UsageError("--judge ranks several images; leave it out, or give --best-of 8")
    words = read_words(text, "nothing to draw; give a text that describes the image")
    check_target(out, PICTURE_FORMATS)
    assistant = open_model("draw", model)
    is_usual = bool(judge) or is_shipped(model or first_model("draw"))
    if is_usual and not best_of and not judge and not can_rerank():
        note(f"one image, not the best of {_USUAL}: ranking needs pip install contrib/composed_world")
        is_usual = False
    count = best_of or (_USUAL if is_usual else 1)
    start = time.perf_counter()
    config = write_config(512, temperature, seed)
    if count == 1:
        answer = ask(assistant, "draw", text=words, config=config)
    else:
        answer = draw_best(assistant, open_model("ask", judge), words, count, config)
    picture = answer.image
    assert picture is not None, "a model for `draw` returns images"
    write_medium(picture, out)
    if not json:
        emit_text(str(out))
        return
    height, width = picture.pixels.shape[:2]
    size = {"width_px": width, "height_px": height, "tokens": len(answer.ids)}
    emit_json({"path": str(out), **size, "seconds": round(time.perf_counter() - start, 3)})
