"""`sensorium generate`: answers a prompt, or continues a text or a program."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli import options
from sensorium.cli.answering import check_files, prepare, read_words, show
from sensorium.cli.output import JsonOption, TerminalProgress
from sensorium.cli.parameters import check_unused
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.assistants.text_assistant import TextAssistant
    from sensorium.generation import Guide


def generate(
    prompt: options.WordsArgument = None,
    model: options.AssistantOption = "smollm2",
    is_raw: Annotated[
        bool, typer.Option("--continue", help="Continue TEXT, such as code, instead of answering it.")
    ] = False,
    system: options.SystemOption = "",
    max_tokens: options.MaxTokensOption = 512,
    temperature: options.TemperatureOption = 0.0,
    penalty: options.PenaltyOption = None,
    seed: options.SeedOption = 0,
    precision: options.PrecisionOption = "bf16",
    stops: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="Stop sequence; repeatable.")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option("--schema", metavar="FILE.json", help="Answer in JSON of this schema.")
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option("--choice", metavar="TEXT", help="Answer with one of these; repeatable."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write text or code: the answer to a prompt, or its continuation.

    Words are printed while they are generated. --schema and --choice constrain the answer, so that it always
    parses. --json prints {"text", "tokens", "seconds"}.
    """
    from sensorium.assistants.assistant import Turn, write_config
    from sensorium.assistants.capabilities import warn_of_language
    from sensorium.assistants.load import load
    from sensorium.assistants.text_assistant import TextAssistant

    text = read_words(prompt, "nothing to answer; give a prompt, or pipe one in")
    if "" in (stops or []):
        raise UsageError("--stop '': a stop sequence cannot be empty; give some letters")
    if is_raw:
        check_unused({"--system": system or None}, "is for answers; leave it out with --continue")
    schema_text = _read_schema(schema, choices or [])
    usual = 1.0 if is_raw else options.PENALTY
    config = write_config(max_tokens, temperature, seed, stops or [], usual if penalty is None else penalty)
    with TerminalProgress() as progress:
        assistant = load(model, TextAssistant, progress=progress)
    assistant = assistant.with_precision(precision)
    prepare(assistant)
    guide = _guide(assistant, schema_text, choices or [])
    warn_of_language(assistant.name, assistant.capabilities, "text", text)
    start = time.perf_counter()
    if is_raw:
        answer = assistant.complete(text, config, guide=guide)
    else:
        turns = [Turn("system", (system,))] if system else []
        answer = assistant.reply([*turns, Turn("user", (text,))], config, guide=guide)
    show(answer, start, is_json=json)


def _read_schema(schema: Path | None, choices: list[str]) -> str | None:
    """Read the schema, before a model is loaded."""
    if schema is not None and choices:
        raise UsageError("--schema and --choice exclude each other; give one")
    if schema is None:
        return None
    check_files([schema])
    try:
        return schema.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"--schema {schema}: not UTF-8 text; give a file with a JSON schema") from error


def _guide(assistant: TextAssistant, schema: str | None, choices: list[str]) -> Guide | None:
    if schema is not None:
        return assistant.grammars().json_schema(schema)
    return assistant.grammars().choice(choices) if choices else None
