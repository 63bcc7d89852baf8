"""`sensorium chat`: a conversation in the terminal, or one line per turn from a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli import options
from sensorium.cli.answering import as_json, open_model, prepare, show
from sensorium.cli.output import JsonOption, TerminalProgress, emit_json, note, visible
from sensorium.cli.parameters import check_unused
from sensorium.core.errors import SensoriumError, UsageError

if TYPE_CHECKING:
    from sensorium.assistants.assistant import Assistant, Generation
    from sensorium.assistants.conversation import Conversation
    from sensorium.models.prompts import Task


_USUAL = "smollm2"


def chat(
    model: options.AssistantOption = "",
    system: options.SystemOption = "",
    attach: Annotated[
        list[Path] | None,
        typer.Option("--attach", "-a", metavar="FILE", help="File for the first message; repeatable."),
    ] = None,
    speak: Annotated[
        bool, typer.Option("--speak", help="Also write each answer as speech, a WAV file in --out.")
    ] = False,
    voice: Annotated[
        str, typer.Option("--voice", metavar="NAME", help="Model for speech, if --model cannot speak.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FOLDER", help="Folder of spoken answers; default: the current one."
        ),
    ] = None,
    max_tokens: options.MaxTokensOption = 512,
    temperature: options.TemperatureOption = 0.2,
    penalty: options.PenaltyOption = None,
    seed: options.SeedOption = 0,
    precision: options.PrecisionOption = "bf16",
    json: JsonOption = False,
) -> None:
    """Converse with a model; /help lists what can be typed besides messages.

    The answer is printed while it is generated; Ctrl-C stops it, Ctrl-D quits. From a pipe each line is a
    message. Without --model SmolLM2 answers; questions about media go to the first available model trained
    for them. --json prints {"text", "tokens", "seconds"} for each answer, with "heard" for a spoken question
    and, with --speak, the path "audio".
    """
    from sensorium.assistants.assistant import write_config
    from sensorium.assistants.capabilities import first_model
    from sensorium.assistants.conversation import Conversation

    def find(task: Task) -> Assistant:
        return open_model(task, voice if task == "speak" else "", precision=precision)

    if not speak:
        check_unused(
            {"--voice": voice or None, "--out": out}, "is for --speak; give that too, or leave it out"
        )
    config = write_config(
        max_tokens, temperature, seed, repetition_penalty=options.PENALTY if penalty is None else penalty
    )
    if speak and not (model or voice):
        first_model("speak")  # a missing speech model is reported before anything is loaded
    talk = Conversation(_opened(model or _USUAL, precision), config, find, bool(model), system)
    speaker = AnswerSpeaker(talk, out or Path()) if speak else None
    for path in attach or []:
        talk.attach(str(path))
    if sys.stdin.isatty():
        note(f"{model or _USUAL}; /help lists commands, Ctrl-D quits")
    for line in _lines():
        with _reported() if sys.stdin.isatty() else contextlib.nullcontext():
            if line.strip() == "/quit":
                return
            _turn(talk, line.strip(), speaker, is_json=json)


def _opened(name: str, precision: options.Precision) -> Assistant:
    """Load the model; raises UsageError if it is not trained for chat."""
    from sensorium.assistants.load import load_assistant

    with TerminalProgress() as progress:
        assistant = load_assistant(name, progress=progress)
    if not {"text", "ask"} & set(assistant.capabilities):
        raise UsageError(f"{name} is not trained for chat; try --model {_USUAL}")
    assistant = assistant.with_precision(precision)
    prepare(assistant)
    return assistant


@dataclass
class AnswerSpeaker:
    """Writes answers as speech into WAV files.

    Attributes:
        talk: The conversation.
        folder: Folder of the files.
        number: Number of the last file.
    """

    talk: Conversation
    folder: Path
    number: int = 0

    def __post_init__(self) -> None:
        self.talk.able_to("speak")  # a missing speech model is reported before anything is asked

    def say(self, text: str) -> Path | None:
        """Synthesize an answer; None if it is empty."""
        from sensorium.media.encoding import write_medium

        if not text.strip():
            return None
        sound = self.talk.say(text).audio()
        self.number += 1
        while (path := self.folder / f"answer-{self.number:03d}.wav").exists():
            self.number += 1
        write_medium(sound, path)
        return path


def _turn(talk: Conversation, line: str, speaker: AnswerSpeaker | None, *, is_json: bool) -> None:
    """Handle a line: a command, a message, or a spoken question."""
    word, _, rest = line.partition(" ")
    heard: str | None = None
    if word == "/voice":
        line = heard = talk.listen(rest.strip())
        note(f"(heard: {visible(heard)})")
    elif word.startswith("/") and word[1:].isalpha():
        if word not in _COMMANDS:
            raise UsageError(f"no command {word}; /help lists them")
        _COMMANDS[word][1](talk, rest.strip())
        return
    if line:
        _answer(talk, line, speaker, heard, is_json=is_json)


def _help(talk: Conversation, rest: str) -> None:
    for name, (what, _function) in _COMMANDS.items():
        note(f"{name:<9} {what}")


def _instruct(talk: Conversation, rest: str) -> None:
    talk.system = rest


_COMMANDS: dict[str, tuple[str, Callable[[Conversation, str], None]]] = {
    "/attach": ("FILE: attach a file to the next message", lambda talk, rest: talk.attach(rest)),
    "/voice": ("FILE: transcribe a recording and send it as message", lambda talk, rest: None),
    "/system": ("TEXT: set the system prompt", _instruct),
    "/clear": ("start a new conversation", lambda talk, rest: talk.clear()),
    "/help": ("list commands", _help),
    "/quit": ("end the conversation", lambda talk, rest: None),
}


def _answer(
    talk: Conversation, message: str, speaker: AnswerSpeaker | None, heard: str | None, *, is_json: bool
) -> None:
    from sensorium.assistants.capabilities import warn_of_language

    warn_of_language(talk.assistant.name, talk.assistant.capabilities, "text", message)
    start = time.perf_counter()
    answer = talk.ask(message)
    if not is_json:
        _show(answer, start)
    text = answer.text
    talk.note(text)
    path = None if speaker is None else speaker.say(text)
    if is_json:
        spoken = {} if speaker is None else {"audio": None if path is None else str(path)}
        emit_json(as_json(answer, start) | ({} if heard is None else {"heard": heard}) | spoken)
    elif path is not None:
        note(f"(spoken: {path})")


def _show(answer: Generation, start: float) -> None:
    try:
        show(answer, start, is_json=False)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        answer.cancel()
        print()


def _lines() -> Iterator[str]:
    """Yield messages until the input ends."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  gives input() its history and editing
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Print errors and continue; at a terminal an error does not end the conversation."""
    try:
        yield
    except SensoriumError as error:
        note(f"error: {error}")
