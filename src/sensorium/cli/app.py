"""The root command: lists the commands, imports the one that is called, and turns errors into exit codes.

`sensorium --help` imports no command, so that it is fast. The module of a command has a Typer `app` or one
function of its own name, and imports heavy packages inside functions.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from sensorium import __version__
from sensorium.cli.output import note
from sensorium.cli.parameters import apply_rules
from sensorium.cli.plugins import COMMANDS as PLUGINS
from sensorium.cli.plugins import app_of, message_when_interrupted, root_commands
from sensorium.core.errors import NotFoundError, SensoriumError, SensoriumWarning
from sensorium.core.printable import one_line

if TYPE_CHECKING:
    from typer._click import Command, Context

INTERRUPTED = 130


@dataclass(frozen=True)
class Entry:
    """Summary of a command in the overview, and the panel that lists it."""

    summary: str
    panel: str


_PANELS = {
    "Start here": {
        "quickstart": "Fetch real data, train, measure and search, in minutes on a laptop.",
        "doctor": "Say what is installed, where things run, and whether they work.",
    },
    "Build": {
        "data": "Fill a media table and look after it.",
        "train": "Train a joint embedding, a grounder, a multimodal model or a codec from a recipe.",
    },
    "Use": {
        "embed": "Write vectors of a table's rows into it, or of files to a file.",
        "search": "Find rows by text, image, sound, video or vector.",
        "classify": "Sort files into classes that are given as words.",
        "eval": "Measure a run: recall between modalities, zero-shot accuracy, linear probe.",
        "chat": "Converse with a model; /help lists what can be typed besides messages.",
        "generate": "Write text or code: the answer to a prompt, or its continuation.",
        "ask": "Answer a question about images, sounds or videos, or one in words alone.",
        "caption": "Describe images, sounds or videos.",
        "translate": "Translate a text, line by line and sentence by sentence.",
        "draw": "Draw an image from a text.",
        "speak": "Read a text aloud, sentence after sentence.",
        "align": "Align two recordings or videos, words to speech, phrases to regions of an image.",
        "transcribe": "Transcribe speech in AUDIO, with the time of every word.",
        "summarize": "Summarise a video: highlight reel, keyframes, chapters and text.",
    },
    "Look inside": {
        "models": "List presets, runs, recipes and encoders; show a run's card, or pack a run for others.",
        "bench": "List and run the benchmarks of a checkout.",
    },
}
COMMANDS = {
    name: Entry(summary, panel) for panel, names in _PANELS.items() for name, summary in names.items()
}


class LazyGroup(TyperGroup):
    """A command group that lists commands without importing them."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.commands = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }
        apply_rules(self)

    def list_commands(self, ctx: Context) -> list[str]:
        """Names of all commands, including those of plug-ins."""
        self._add_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Placeholder of a command; plug-ins are searched if it is not built in."""
        if cmd_name not in self.commands:
            self._add_plugins()
        return super().get_command(ctx, cmd_name)

    def _add_plugins(self) -> None:
        for name in root_commands():
            placeholder = TyperCommand(name, help="Command of a plug-in.", rich_help_panel="Plug-ins")
            self.commands.setdefault(name, placeholder)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Resolve the name, then replace the placeholder by the real command."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, placeholder if name is None else load_command(name), rest


def load_command(name: str) -> TyperCommand | TyperGroup:
    """Import a command's module, and build the command by Typer."""
    command = typer.main.get_command(load_app(name))
    command.name = name
    command.help = command.help or (COMMANDS[name].summary if name in COMMANDS else None)
    apply_rules(command)
    return command  # type: ignore[return-value]


def load_app(name: str) -> typer.Typer:
    """The Typer app of a command: the `app` of its module, or one of its function, named as the module."""
    if name not in COMMANDS:
        return app_of(PLUGINS.get(name))
    module_name = "evaluate" if name == "eval" else name
    module = importlib.import_module(f"sensorium.cli.{module_name}")
    own: typer.Typer | None = getattr(module, "app", None)
    return own or app_of(getattr(module, module_name))


app = typer.Typer(
    cls=LazyGroup, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Turn the media you own into one model that you can search, question and talk to.

    Results go to stdout (one line of JSON with --json), the rest to stderr.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly failed, 4 not found, 130 interrupted.
    """
    if version:
        print(__version__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; user errors become one red line on stderr.

    With `SENSORIUM_DEBUG=1` they are raised.
    """
    _write_unencodable_characters_escaped()
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        with warnings.catch_warnings():
            _print_warnings()
            result = app(words, standalone_mode=False, prog_name="sensorium")
        sys.stdout.flush()
        if result == INTERRUPTED:  # Typer returns this after Ctrl-C
            return _fail(_interrupted(words), INTERRUPTED)
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        return _leave_closed_pipe()
    except SystemExit as error:
        # Typer turns a closed pipe into this; shell completion leaves with 0.
        return _leave_closed_pipe() if error.code == 1 else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail(_interrupted(words), INTERRUPTED)
    except typer.TyperException as error:
        return _fail(_usage_message(error), error.exit_code)
    except SensoriumError as error:
        _reraise_for_debugging(error)
        return _fail(str(error), error.exit_code)
    except OSError as error:
        _reraise_for_debugging(error)
        return _fail(
            _system_message(error), NotFoundError.exit_code if isinstance(error, FileNotFoundError) else 1
        )


def _print_warnings() -> None:
    """Print each `SensoriumWarning` once, as one line on stderr; other warnings as Python does."""
    show_other, shown = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, SensoriumWarning):
            show_other(message, category, *place)
        elif str(message) not in shown:
            shown.add(str(message))
            note(f"note: {one_line(str(message))}")

    warnings.simplefilter("always", SensoriumWarning)
    warnings.showwarning = show  # type: ignore[assignment]


def _interrupted(arguments: Sequence[str]) -> str:
    """Message after Ctrl-C: what was kept, and the command to continue."""
    words = tuple(arguments)
    how = _ON_INTERRUPT.get(words[:2]) or _ON_INTERRUPT.get(words[:1]) or message_when_interrupted(words)
    if how is None:
        return "interrupted"
    again = words if words[0] != "train" or "--resume" in words else (*words, "--resume")
    return f"interrupted; {how}: {shlex.join(('sensorium', *again))}"


_RESUMES, _RESTARTS = "what is done is kept; to continue, run", "nothing is kept; to start again, run"
_ON_INTERRUPT: dict[tuple[str, ...], str] = {
    **{("data", name): _RESUMES for name in ("prepare", "get")},
    **{
        ("data", name): "remove the --out table, which is incomplete, then run"
        for name in ("dedup", "filter")
    },
    **{(name,): _RESUMES for name in ("quickstart", "train", "embed")},
    **{(name,): _RESTARTS for name in ("eval", "draw", "speak", "align", "summarize")},
    ("transcribe",): "transcripts that were written are complete; to start again, run",
}
"""Messages after Ctrl-C by command; other commands have none."""


def _usage_message(error: typer.TyperException) -> str:
    message = error.format_message().strip()
    context = getattr(error, "ctx", None)
    if not message or context is None:
        return message
    return f"{message.rstrip('.')}; see '{context.command_path} --help'"


def _system_message(error: OSError) -> str:
    where = _TEMPORARY.sub(r"\1", str(error.filename)) if error.filename else ""
    what = _NEXT_STEP.get(error.errno or 0, error.strerror or str(error))
    return f"{what}: {where}" if where else what


_TEMPORARY = re.compile(r"\.([^/]+)\.\d+\.tmp$")
"""Name of a temporary file of `core.files`; messages show the final name."""
_NEXT_STEP = {
    errno.ENOSPC: "no space is left on the disk; make room and give the same command again",
    errno.EDQUOT: "the quota of the disk is used up; make room and give the same command again",
}


def _fail(message: str, exit_code: int) -> int:
    """Print one line to stderr, red on a terminal."""
    line = one_line(message)
    if line:
        is_coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        text = f"error: {line}" if exit_code != INTERRUPTED else line
        print(f"\033[31m{text}\033[0m" if is_coloured else text, file=sys.stderr)
    return exit_code


def _reraise_for_debugging(error: Exception) -> None:
    if os.environ.get("SENSORIUM_DEBUG", "0") not in {"", "0"}:
        raise error


def _leave_closed_pipe() -> int:
    """Stop quietly if stdout was closed (`sensorium search ... | head`), also when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _write_unencodable_characters_escaped() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
