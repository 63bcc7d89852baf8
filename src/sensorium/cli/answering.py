"""Shared by commands that generate: open a model, ask it, and print the answer while it is generated."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from sensorium.cli.options import Precision
from sensorium.cli.output import PARTLY_FAILED, TerminalProgress, emit_json, emit_text, note, write_stream
from sensorium.core.errors import NotFoundError, SensoriumError, UsageError
from sensorium.core.printable import one_line

if TYPE_CHECKING:
    from sensorium.assistants.assistant import Assistant, Generation, Output, Part, WriteConfig
    from sensorium.models.prompts import Task


def read_words(words: Sequence[str] | None, otherwise: str) -> str:
    """Text from the arguments, else from stdin.

    Raises:
        UsageError: With the message `otherwise` if there is no text; or if it is one word that looks like a
            path.
    """
    from sensorium.media.path_or_text import looks_like_path

    if words is not None and len(words) == 1 and _is_file(words[0]):
        raise UsageError(f"'{words[0]}' is a file; for the text in it put < before its name")
    text = " ".join(words) if words else "" if sys.stdin.isatty() else sys.stdin.read()
    if not text.strip():
        raise UsageError(otherwise)
    if words and len(text.split()) == 1 and looks_like_path(text):
        raise UsageError(
            f"'{text}' looks like a path, and no such file is there; "
            "for the text in a file put < before its name"
        )
    return text


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name
        return False


def prepare(assistant: Assistant, to: Output = "text") -> None:
    """Compile the decoder, with progress: the first time on a machine this takes some seconds."""
    with TerminalProgress() as progress:
        assistant.prepare(to, progress)


def open_model(task: Task, name: str = "", *, language: str = "", precision: Precision = "bf16") -> Assistant:
    """Load the model of `--model`, or the first available one for the task, and compile its decoder.

    Raises:
        NotFoundError: If no model is named and none is trained for the task.
        UsageError: If the model is not trained for the task or the language.
    """
    from sensorium.assistants.capabilities import check_capability, first_model
    from sensorium.assistants.load import load_assistant
    from sensorium.models.prompts import DECODER_OF

    place = name or first_model(task)
    with TerminalProgress() as progress:
        assistant = load_assistant(place, progress=progress)
    check_capability(assistant.name, assistant.capabilities, task, language)
    if not name:
        note(f"model: {place}")
    assistant = assistant.with_precision(precision)
    prepare(assistant, cast("Output", DECODER_OF[task]))
    return assistant


def show(answer: Generation, start: float, *, is_json: bool) -> None:
    """Print an answer while it is generated, or as JSON {"text", "tokens", "seconds"} when it is complete.

    Args:
        answer: Not iterated yet.
        start: Time of the request by `time.perf_counter`.
        is_json: Whether to print JSON.
    """
    if is_json:
        emit_json(as_json(answer.wait(), start))
        return
    write_stream(answer)
    if answer.reason == "length":
        note(f"(cut after {len(answer.ids)} tokens; --max-tokens allows more)")


def as_json(answer: Generation, start: float) -> dict[str, object]:
    """JSON object of a finished answer."""
    seconds = round(time.perf_counter() - start, 3)
    return {"text": answer.text, "tokens": len(answer.ids), "seconds": seconds}


def answer_media(
    assistant: Assistant,
    task: Task,
    paths: list[Path],
    config: WriteConfig,
    *,
    text: str = "",
    every_s: float | None = None,
    is_json: bool = False,
) -> None:
    """Ask about files and print the answers; several answers are one line (or JSON element) each.

    Args:
        assistant: The model.
        task: The task.
        paths: Files; `assistants.ask.together` groups them into turns.
        config: Options of generation.
        text: The question.
        every_s: Ask about each part of this length of a single file.
        is_json: Whether to print JSON.

    Raises:
        typer.Exit: With code 3 if some of several files could not be read.
    """
    from sensorium.assistants.ask import ask, is_long, moments, together

    def answer(parts: Sequence[Part]) -> Generation:
        if task == "caption":
            check_files(part for part in parts if isinstance(part, Path))
            _refuse_texts(parts)
        return ask(assistant, task, parts, text=text, config=config)

    # each file gets its own caption; a question is about all files together
    groups = [(path,) for path in paths] if task == "caption" else together(paths)
    if every_s is not None:
        if len(paths) != 1:
            raise UsageError(f"--every takes one video or sound, got {len(paths)} files")
        parts, count = moments(paths[0], every_s)
        _answer_each((({"start_s": one.start_s}, (one.medium,)) for one in parts), count, answer, is_json)
    elif len(groups) == 1:
        start = time.perf_counter()
        with TerminalProgress() as progress:
            for path in filter(is_long, groups[0]):
                progress(0, None, f"reading {path.name}")
            found = answer(groups[0])
        show(found, start, is_json=is_json)
    else:
        named = (({"uri": str(group[0])}, group) for group in groups)
        _answer_each(named, len(groups), answer, is_json)


def _answer_each(
    asked: Iterable[tuple[Mapping[str, object], Sequence[Part]]],
    count: int | None,
    answer: Callable[[Sequence[Part]], Generation],
    is_json: bool,
) -> None:
    """Print each answer as a line when it is complete, or all as one JSON list at the end."""
    from sensorium.video.chapters import clock

    done: list[dict[str, object]] = []
    num_failed = num_done = 0
    with TerminalProgress() as progress:
        for number, (name, parts) in enumerate(asked, start=1):
            start = time.perf_counter()
            try:
                found = as_json(answer(parts), start)
            except (SensoriumError, OSError) as error:
                where = str(name.get("uri", ""))
                said = " ".join(str(error).split())
                note(said if where in said else f"{where}: {said}")
                num_failed += 1
                continue
            num_done += 1
            if is_json:
                done.append({**name, **found})
                progress(number, count, "answering")
            else:
                label = clock(cast(float, name["start_s"])) if "start_s" in name else name["uri"]
                emit_text(f"{one_line(str(label))}\t{one_line(str(found['text']))}")
    if is_json:
        emit_json(done)
    if num_failed:
        raise typer.Exit(PARTLY_FAILED if num_done else 1)


def _refuse_texts(parts: Sequence[Part]) -> None:
    from sensorium.assistants.router import kind_of

    for part in parts:
        if kind_of(part) == "text":
            raise UsageError(f"{part} is a text; captions are of images, sounds and videos")


def check_files(paths: Iterable[Path]) -> None:
    """Check that paths are files, before a model is loaded.

    Raises:
        NotFoundError: For the first that does not exist.
        UsageError: For the first that is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise UsageError(f"'{path}' is a folder; give the files in it, as {path}/*")
        if not path.exists():
            raise NotFoundError(f"no file '{path}'; give an image, a sound, a video or a text")
