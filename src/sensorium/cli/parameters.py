"""What holds for every command: help reads as its source, numbers are finite, results can be written.

In: a command and those below it. Out: the same command, with these rules around it. Imports nothing heavy.
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
"""Parameters that name what a command writes."""
_RICH_TAG = re.compile(r"(\\*)(\[[a-zA-Z#/@][^\[]*?\])")
"""What Rich takes for markup, with the backslashes before it (see `rich.markup.escape`)."""


def apply_rules(command: Command) -> None:
    """Put the rules around a command and those below it."""
    _show_as_written(command)
    invoke = command.invoke

    def checked(ctx: Context) -> object:
        check_values({_option(command, name): value for name, value in ctx.params.items()})
        return invoke(ctx)

    command.invoke = checked  # type: ignore[method-assign]
    for one in getattr(command, "commands", {}).values():
        apply_rules(one)


def _option(command: Command, name: str) -> str:
    """How a parameter is written, as `--out`; an argument by its name."""
    written = (one.opts for one in command.params if one.name == name)
    return max(next(written, [name]), key=len)


def check_values(values: Mapping[str, object]) -> None:
    """Refuse numbers that are not finite and results that cannot be written, before any work.

    Args:
        values: By option, as `--out`.

    Raises:
        UsageError: With the option.
    """
    for option, value in values.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                raise UsageError(f"{option} {one}: expected a finite number")
            if option.lstrip("-") in RESULTS and isinstance(one, Path):
                check_result(option, one)


def check_result(option: str, path: Path) -> None:
    """Refuse a result whose folder takes no files.

    Raises:
        UsageError: With the folder.
    """
    folder = next((one for one in path.absolute().parents if os.path.lexists(one)), Path("/"))
    if not folder.is_dir():
        raise UsageError(f"{option} {path}: {folder} is no folder; choose another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: {folder} takes no files; choose another place")


def check_unused(given: Mapping[str, object], why: str) -> None:
    """Refuse options that would have no effect.

    Args:
        given: Options by name, with None, False or nothing where they were not given.
        why: When they have one.

    Raises:
        UsageError: With the first that was given.
    """
    for option, value in given.items():
        if value is not None and value is not False and value != []:
            raise UsageError(f"{option} {why}")


def as_written(text: str) -> str:
    r"""Make a help text appear as its source has it: brackets are no markup, lines break where they must.

    Example:
        >>> as_written("A line\n    and its rest; [low high]: 95%.\n\n    More.")
        'A line and its rest; \\[low high]: 95%.\n\nMore.'
    """
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return _RICH_TAG.sub(r"\1\1\\\2", "\n\n".join(paragraphs).strip())


def _show_as_written(command: Command) -> None:
    """Let `--help` show the texts of the source, and no type of a flag."""
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
