"""Commands of plug-in packages: entry-point group `sensorium.command`.

An entry point `GROUP.NAME` adds a function to `sensorium GROUP`, and `NAME` one to `sensorium` itself. The
function is imported when its group is; its parameters are Typer's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import typer

from sensorium.core.registry import Registry

COMMANDS: Registry[None] = Registry("command")
F = TypeVar("F", bound=Callable[..., None])
_TOLD = "told_when_interrupted"


def when_interrupted(text: str) -> Callable[[F], F]:
    """Decorate a command with what a person is told who stops it: "TEXT: COMMAND"."""

    def add(command: F) -> F:
        command.__dict__[_TOLD] = text
        return command

    return add


def told_when_interrupted(words: Sequence[str]) -> str | None:
    """What a person is told who stops a command of a plug-in; None where it says nothing."""
    name = next((one for one in (".".join(words[:2]), *words[:1]) if one in COMMANDS), None)
    return None if name is None else getattr(COMMANDS.get(name), _TOLD, None)


def add_commands(app: typer.Typer, group: str) -> None:
    """Add what plug-ins bring to a command group."""
    for name in COMMANDS:
        own, _, command = name.rpartition(".")
        if own == group:
            app.command(command)(COMMANDS.get(name))


def root_commands() -> list[str]:
    """Commands that plug-ins add to `sensorium` itself."""
    return [name for name in COMMANDS if "." not in name]


def app_of(name: str) -> typer.Typer:
    """The Typer app of one of them."""
    app = typer.Typer(add_completion=False)
    app.command()(COMMANDS.get(name))
    return app
