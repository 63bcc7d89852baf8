"""How commands open a model that answers, ask it, and show what it writes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import typer

from sensorium.cli.output import PARTLY_FAILED, TerminalProgress, emit_json, emit_text, note, write_stream
from sensorium.core.errors import NotFoundError, SensoriumError, UsageError
from sensorium.core.printable import one_line

if TYPE_CHECKING:
    from sensorium.assistants.assistant import Assistant, Generation, Output, Part, WriteConfig
    from sensorium.generation import Precision
    from sensorium.models.prompts import Task


def read_precision(name: str) -> Precision:
    """The precision that an option names.

    Raises:
        UsageError: If there is no such.
    """
    from sensorium.generation import Precision

    known = get_args(Precision)
    if name not in known:
        raise UsageError(f"--precision {name}: expected one of {', '.join(known)}")
    return cast("Precision", name)


def read_words(words: Sequence[str] | None, otherwise: str) -> str:
    """The text that was given as words, else by a pipe.

    Raises:
        UsageError: If there is none; it says `otherwise`. Or if it is one word that looks like a path.
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
    """Build what writes; the first time on a machine this takes some seconds, which is shown."""
    with TerminalProgress() as progress:
        assistant.prepare(to, progress)


def open_model(task: Task, name: str = "", *, language: str = "", precision: str = "bf16") -> Assistant:
    """Open the model that `--model` names, or the first at hand that was taught a task, ready to write.

    Raises:
        NotFoundError: If none is named and none was taught it.
        UsageError: If it was not taught it, or not for this language.
    """
    from sensorium.assistants.capabilities import check_capability, first_model
    from sensorium.assistants.load import load_assistant
    from sensorium.models.prompts import DECODER_OF

    chosen, place = read_precision(precision), name or first_model(task)
    with TerminalProgress() as progress:
        assistant = load_assistant(place, progress=progress)
    check_capability(assistant.name, assistant.capabilities, task, language)
    if not name:
        note(f"model: {place}")
    assistant = assistant.with_precision(chosen)
    prepare(assistant, cast("Output", DECODER_OF[task]))
    return assistant


def show(answer: Generation, start: float, *, is_json: bool) -> None:
    """Print an answer: as it is written, or as {"text", "tokens", "seconds"} when it is.

    Args:
        answer: Not iterated over yet.
        start: Of the clock `time.perf_counter`, when it was asked for.
        is_json: Whether as JSON.
    """
    if is_json:
        emit_json(as_json(answer.wait(), start))
        return
    write_stream(answer)
    if answer.reason == "length":
        note(f"(cut after {len(answer.ids)} tokens; --max-tokens allows more)")


def as_json(answer: Generation, start: float) -> dict[str, object]:
    """What is said of a finished answer."""
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
    """Ask about files and print the answers: one of a single turn, else one line or element for each.

    Args:
        assistant: Who answers.
        task: What is asked.
        paths: Files; `assistants.ask.together` groups them into turns.
        config: How answers are written.
        text: The question.
        every_s: Ask of each part of this length of the one file.
        is_json: Whether as JSON.

    Raises:
        typer.Exit: With code 3, if some of several files could not be read; which, was said.
    """
    from sensorium.assistants.ask import ask, is_long, moments, together

    def answer(parts: Sequence[Part]) -> Generation:
        if task == "caption":
            check_files(part for part in parts if isinstance(part, Path))
            _refuse_texts(parts)
        return ask(assistant, task, parts, text=text, config=config)

    # each file has a caption of its own, whatever else is given; a question is about all of them
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
    """Print a line for each as soon as it is answered, or a list of all with the progress beside it."""
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
    """Refuse names of no file, before a model is loaded.

    Raises:
        NotFoundError: With the first that is not there.
        UsageError: With the first that is a folder,.
    """
    for path in paths:
        if path.is_dir():
            raise UsageError(f"'{path}' is a folder; give the files in it, as {path}/*")
        if not path.exists():
            raise NotFoundError(f"no file '{path}'; give an image, a sound, a video or a text")
