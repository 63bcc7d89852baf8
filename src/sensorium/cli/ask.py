"""`sensorium ask`: answers a question about images, sounds and videos, or a question without media."""

from __future__ import annotations

from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli import options
from sensorium.cli.answering import answer_media, check_files, open_model
from sensorium.cli.output import JsonOption
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.models.prompts import Task


def ask(
    given: Annotated[
        list[str],
        typer.Argument(metavar='[MEDIA...] "QUESTION"', help="Files, then the question about them."),
    ],
    model: options.TaughtModelOption = "",
    every: options.EveryOption = None,
    max_tokens: options.MaxTokensOption = 128,
    temperature: options.TemperatureOption = 0.0,
    seed: options.SeedOption = 0,
    precision: options.PrecisionOption = "bf16",
    json: JsonOption = False,
) -> None:
    """Answer a question about images, sounds or videos, or one in words alone.

    Files of different kinds are used together; several files of one kind get an answer each. The answer is
    printed while it is generated. --json prints {"text", "tokens", "seconds"}; for several files a list of
    these with "uri", with --every a list with "start_s" of each part. Exits 3 if some of several files could
    not be read.
    """
    from sensorium.assistants.assistant import write_config
    from sensorium.media.path_or_text import looks_like_path

    *names, question = given
    paths = [Path(name) for name in names]
    if not question.strip():
        raise UsageError('the question is empty; ask for something, as: sensorium ask frog.png "What is it?"')
    if isfile(question):
        raise UsageError(f"'{question}' is a file; put the question after the files, in quotes")
    if looks_like_path(question):
        raise UsageError(
            f"'{question}' looks like a path, and no such file is there; the question comes last, in quotes"
        )
    check_files(paths)
    task: Task = "ask" if paths else "text"
    assistant = open_model(task, model, precision=precision)
    penalty = options.PENALTY if task == "text" else 1.0
    config = write_config(max_tokens, temperature, seed, repetition_penalty=penalty)
    answer_media(assistant, task, paths, config, text=question, every_s=every, is_json=json)
