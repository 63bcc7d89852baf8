"""Commands of plug-in packages, found by the entry-point group `sensorium.command`.

An entry point `GROUP.NAME` adds a command to `sensorium GROUP`, an entry point `NAME` to `sensorium`. It
names a function with Typer parameters, which is imported with its group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import typer

from sensorium.core.registry import Registry

COMMANDS: Registry[None] = Registry("command")
F = TypeVar("F", bound=Callable[..., None])
_MESSAGE = "message_when_interrupted"


def when_interrupted(text: str) -> Callable[[F], F]:
    """Decorate a command with the message after Ctrl-C; it is printed as "TEXT: COMMAND"."""

    def add(command: F) -> F:
        command.__dict__[_MESSAGE] = text
        return command

    return add


def message_when_interrupted(words: Sequence[str]) -> str | None:
    """Message after Ctrl-C of a plug-in's command; None if it has none."""
    name = next((one for one in (".".join(words[:2]), *words[:1]) if one in COMMANDS), None)
    return None if name is None else getattr(COMMANDS.get(name), _MESSAGE, None)


def add_commands(app: typer.Typer, group: str) -> None:
    """Add the commands of plug-ins to a command group."""
    for name in COMMANDS:
        own, _, command = name.rpartition(".")
        if own == group:
            app.command(command)(COMMANDS.get(name))


def root_commands() -> list[str]:
    """Commands that plug-ins add to `sensorium` itself."""
    return [name for name in COMMANDS if "." not in name]


def app_of(command: Callable[..., None]) -> typer.Typer:
    """A Typer app with one command."""
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return app
