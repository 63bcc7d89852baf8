"""`sensorium chat`: a conversation in the terminal, or one line a turn from a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.answering import prepare, read_precision, show
from sensorium.cli.options import (
    PENALTY,
    AssistantOption,
    MaxTokensOption,
    PenaltyOption,
    PrecisionOption,
    SeedOption,
    SystemOption,
    TemperatureOption,
)
from sensorium.cli.output import JsonOption, TerminalProgress, note
from sensorium.core.errors import NotFoundError, SensoriumError, UsageError

if TYPE_CHECKING:
    from sensorium.tasks.assistant import Assistant, Generation, Part, Turn, WriteConfig

app = typer.Typer(add_completion=False)


@app.command()
def chat(
    model: AssistantOption = "smollm2",
    system: SystemOption = "",
    attach: Annotated[
        list[Path] | None,
        typer.Option("--attach", "-a", metavar="FILE", help="Goes with the first message; repeatable."),
    ] = None,
    max_tokens: MaxTokensOption = 512,
    temperature: TemperatureOption = 0.2,
    penalty: PenaltyOption = None,
    seed: SeedOption = 0,
    precision: PrecisionOption = "bf16",
    json: JsonOption = False,
) -> None:
    """Converse with a model; /help lists what can be typed besides messages.

    The answer is shown as it is written; Ctrl-C stops it, Ctrl-D leaves. From a pipe each line is a message.
    --json prints {"text", "tokens", "seconds"} for each answer.
    """
    from sensorium.tasks.assistant import write_config
    from sensorium.tasks.load import load_assistant

    with TerminalProgress() as progress:
        assistant = load_assistant(model, progress=progress)
    assistant = assistant.with_precision(read_precision(precision))
    prepare(assistant)
    config = write_config(
        max_tokens, temperature, seed, repetition_penalty=PENALTY if penalty is None else penalty
    )
    talk = Conversation(assistant, config, system)
    for path in attach or []:
        talk.attach(str(path))
    if sys.stdin.isatty():
        note(f"{model}; /help lists commands, Ctrl-D leaves")
    for line in _lines():
        with _told() if sys.stdin.isatty() else contextlib.nullcontext():
            if not talk.obey(line) and line.strip():
                _answer(talk, line, is_json=json)
        if talk.is_over:
            break


@dataclass
class Conversation:
    """What was said so far.

    Attributes:
        assistant: Who answers.
        config: How.
        system: What the assistant is told about its part.
        turns: What both sides said.
        attached: What goes with the next message.
        is_over: Whether somebody has said goodbye.
    """

    assistant: Assistant
    config: WriteConfig
    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    attached: list[Part] = field(default_factory=list)
    is_over: bool = False

    def obey(self, line: str) -> bool:
        """Do what a line asks for if it is a command."""
        word, _, rest = line.strip().partition(" ")
        if not (word.startswith("/") and word[1:].isalpha()):
            return False
        if word not in _COMMANDS:
            raise UsageError(f"no command {word}; /help lists them")
        _COMMANDS[word][1](self, rest.strip())
        return True

    def ask(self, text: str) -> Generation:
        """Begin an answer to a message; `hear` takes note of it."""
        from sensorium.tasks.assistant import Turn

        asked = Turn("user", (*self.attached, text))
        self.attached = []
        told = [Turn("system", (self.system,))] if self.system else []
        sampling = self.config.sampling
        sampling = sampling.model_copy(update={"seed": sampling.seed + len(self.turns)})
        answer = self.assistant.reply(
            [*told, *self.turns, asked], self.config.model_copy(update={"sampling": sampling})
        )
        self.turns.append(asked)
        return answer

    def hear(self, text: str) -> None:
        """Take note of an answer."""
        from sensorium.tasks.assistant import Turn

        self.turns.append(Turn("assistant", (text,)))

    def attach(self, name: str) -> None:
        """Let a file go with the next message."""
        path = Path(name).expanduser()
        if not path.is_file():
            raise NotFoundError(f"no file '{name}'; give the path of an image, a sound, a video or a text")
        self.attached.append(path)

    def clear(self, _: str) -> None:
        """Forget what was said."""
        self.turns, self.attached = [], []

    def instruct(self, text: str) -> None:
        """Change what the assistant is told about its part."""
        self.system = text

    def leave(self, _: str) -> None:
        """End the conversation."""
        self.is_over = True

    def help(self, _: str) -> None:
        """List commands."""
        for name, (what, _function) in _COMMANDS.items():
            note(f"{name:<9} {what}")


_COMMANDS: dict[str, tuple[str, Callable[[Conversation, str], None]]] = {
    "/attach": ("FILE: let a file go with the next message", Conversation.attach),
    "/system": ("TEXT: tell the model about its part", Conversation.instruct),
    "/clear": ("forget what was said", Conversation.clear),
    "/help": ("list these", Conversation.help),
    "/quit": ("leave", Conversation.leave),
}


def _answer(talk: Conversation, line: str, *, is_json: bool) -> None:
    start = time.perf_counter()
    answer = talk.ask(line.strip())
    try:
        show(answer, start, is_json=is_json)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        answer.cancel()
        print()
    talk.hear(answer.text)


def _lines() -> Iterator[str]:
    """Messages, until the input ends."""
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
def _told() -> Iterator[None]:
    """At a terminal a mistake costs one message, not the conversation."""
    try:
        yield
    except SensoriumError as error:
        note(f"error: {error}")
