"""`sensorium translate`: translates a text."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from sensorium.cli import options
from sensorium.cli.answering import open_model, read_words, show
from sensorium.cli.output import JsonOption


def translate(
    to: Annotated[str, typer.Option("--to", metavar="CODE", help="Language to translate into, such as fr.")],
    text: options.WordsArgument = None,
    model: options.TaughtModelOption = "",
    max_tokens: options.MaxTokensOption = 128,
    temperature: options.TemperatureOption = 0.0,
    seed: options.SeedOption = 0,
    precision: options.PrecisionOption = "bf16",
    json: JsonOption = False,
) -> None:
    """Translate a text, line by line and sentence by sentence.

    The translation is printed while it is generated. --json prints {"text", "tokens", "seconds"}.
    """
    from sensorium.assistants.assistant import write_config
    from sensorium.assistants.translate import translate as translated

    words = read_words(text, "nothing to translate; give a text, or pipe one in")
    assistant = open_model("translate", model, language=to, precision=precision)
    start = time.perf_counter()
    show(translated(assistant, words, to, write_config(max_tokens, temperature, seed)), start, is_json=json)
