"""Rules for every command: help texts are printed as written, numbers are finite, outputs are writable.

`apply_rules` adds them to a command and its subcommands. Imports nothing heavy.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter

RESULTS = frozenset({"out", "output", "plot", "warp", "sheet", "html", "pack"})
"""Parameters that are output paths."""
_RICH_TAG = re.compile(r"(\\*)(\[[a-zA-Z#/@][^\[]*?\])")
"""Rich markup with the backslashes before it (see `rich.markup.escape`)."""


def apply_rules(command: Command) -> None:
    """Add the rules to a command and its subcommands."""
    _show_as_written(command)
    invoke = command.invoke

    def checked(ctx: Context) -> object:
        check_values({_option(command, name): value for name, value in ctx.params.items()})
        return invoke(ctx)

    command.invoke = checked  # type: ignore[method-assign]
    for one in getattr(command, "commands", {}).values():
        apply_rules(one)


def _option(command: Command, name: str) -> str:
    """Option of a parameter, such as `--out`; for an argument its name."""
    written = (one.opts for one in command.params if one.name == name)
    return max(next(written, [name]), key=len)


def check_values(values: Mapping[str, object]) -> None:
    """Raise UsageError for numbers that are not finite and outputs that cannot be written.

    Args:
        values: Values by option, such as `--out`.
    """
    for option, value in values.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                raise UsageError(f"{option} {one}: expected a finite number")
            if option.lstrip("-") in RESULTS and isinstance(one, Path):
                check_result(option, one)


def check_result(option: str, path: Path) -> None:
    """Raise UsageError if the folder of an output path is not writable."""
    folder = next((one for one in path.absolute().parents if os.path.lexists(one)), Path("/"))
    if not folder.is_dir():
        raise UsageError(f"{option} {path}: {folder} is not a folder; choose another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: {folder} is not writable; choose another path")


def check_unused(given: Mapping[str, object], why: str) -> None:
    """Raise UsageError for options that would have no effect.

    Args:
        given: Options by name; None, False or [] = not given.
        why: Rest of the message after the option.
    """
    for option, value in given.items():
        if value is not None and value is not False and value != []:
            raise UsageError(f"{option} {why}")


def as_written(text: str) -> str:
    r"""Escape a help text for Rich, so that brackets are printed and paragraphs are wrapped.

    Example:
        >>> as_written("A line\n    and its rest; [low high]: 95%.\n\n    More.")
        'A line and its rest; \\[low high]: 95%.\n\nMore.'
    """
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return _RICH_TAG.sub(r"\1\1\\\2", "\n\n".join(paragraphs).strip())


def _show_as_written(command: Command) -> None:
    """Let `--help` print texts as written, and no type for flags."""
    command.help = as_written(command.help or "")
    for parameter in command.params:
        parameter.help = as_written(getattr(parameter, "help", None) or "")  # type: ignore[attr-defined]
    get_params = command.get_params  # which adds --help

    def without_flag_types(ctx: Context) -> list[Parameter]:
        parameters = get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters

    command.get_params = without_flag_types  # type: ignore[method-assign]
