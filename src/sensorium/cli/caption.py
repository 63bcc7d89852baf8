"""`sensorium caption`: describes images, sounds and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import options
from sensorium.cli.answering import answer_media, check_files, open_model
from sensorium.cli.output import JsonOption


def caption(
    media: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images, sounds or videos.")],
    model: options.TaughtModelOption = "",
    every: options.EveryOption = None,
    max_tokens: options.MaxTokensOption = 64,
    temperature: options.TemperatureOption = 0.0,
    seed: options.SeedOption = 0,
    precision: options.PrecisionOption = "bf16",
    json: JsonOption = False,
) -> None:
    """Describe images, sounds or videos.

    Several files get a line each; errors are printed to stderr. --json prints {"text", "tokens", "seconds"};
    for several files a list of these with "uri", with --every a list with "start_s" of each part. Exits 3 if
    some of several files could not be described.
    """
    from sensorium.assistants.assistant import write_config

    if len(media) == 1:
        check_files(media)
    assistant = open_model("caption", model, precision=precision)
    config = write_config(max_tokens, temperature, seed)
    answer_media(assistant, "caption", media, config, every_s=every, is_json=json)
