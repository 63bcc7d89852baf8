"""Commands of plug-in packages: entry-point group `sensorium.command`.

An entry point `GROUP.NAME` adds a function to `sensorium GROUP`, and `NAME` one to `sensorium` itself. The
function is imported when its group is; its parameters are Typer's.
"""

from __future__ import annotations

import typer

from sensorium.core.registry import Registry

COMMANDS: Registry[None] = Registry("command")


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
