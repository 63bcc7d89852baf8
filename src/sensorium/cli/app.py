"""The root command: which commands there are, where they live, and how failures leave the program.

A command's module is imported when that command is called, so that `sensorium --help` answers at once; each
module holds a Typer `app` and keeps its own heavy imports inside its functions.
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
from sensorium.cli.plugins import app_of, root_commands, told_when_interrupted
from sensorium.core.errors import NotFoundError, SensoriumError, SensoriumWarning
from sensorium.core.printable import one_line

if TYPE_CHECKING:
    from typer._click import Command, Context

INTERRUPTED = 130


@dataclass(frozen=True)
class Entry:
    """Where a command lives and its line in the overview."""

    module: str
    summary: str
    panel: str


COMMANDS: dict[str, Entry] = {
    "quickstart": Entry(
        "quickstart", "Fetch real data, train, measure and search, in minutes on a laptop.", "Start here"
    ),
    "doctor": Entry(
        "doctor", "Say what is installed, where things run, and whether they work.", "Start here"
    ),
    "data": Entry("data", "Fill a media table and look after it.", "Build"),
    "train": Entry(
        "train", "Train a joint embedding, a grounder, a multimodal model or a codec from a recipe.", "Build"
    ),
    "embed": Entry("embed", "Write vectors of a table's rows into it, or of files to a file.", "Use"),
    "search": Entry("search", "Find rows by text, image, sound, video or vector.", "Use"),
    "classify": Entry("classify", "Sort files into classes that are given as words.", "Use"),
    "eval": Entry(
        "evaluate", "Measure a run: recall between modalities, zero-shot accuracy, linear probe.", "Use"
    ),
    "chat": Entry("chat", "Converse with a model; /help lists what can be typed besides messages.", "Use"),
    "generate": Entry("generate", "Write text or code: the answer to a prompt, or its continuation.", "Use"),
    "ask": Entry("ask", "Answer a question about images, sounds or videos, or one in words alone.", "Use"),
    "caption": Entry("caption", "Say what images, sounds or videos show.", "Use"),
    "translate": Entry("translate", "Translate a text, line by line and sentence by sentence.", "Use"),
    "draw": Entry("draw", "Draw what is said in words.", "Use"),
    "speak": Entry("speak", "Read a text aloud, sentence after sentence.", "Use"),
    "align": Entry(
        "align", "Align two recordings or videos, words to speech, phrases to regions of an image.", "Use"
    ),
    "transcribe": Entry(
        "transcribe", "Write down what is said in AUDIO, with the time of every word.", "Use"
    ),
    "summarize": Entry(
        "summarize", "Summarise a video: highlight reel, keyframes, chapters and text.", "Use"
    ),
    "models": Entry(
        "models",
        "List presets, runs, recipes and encoders; show a run's card, or pack a run for others to use.",
        "Look inside",
    ),
    "bench": Entry("bench", "List and run the benchmarks of a checkout.", "Look inside"),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and summary, and imports the one that is called."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.commands = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }
        apply_rules(self)

    def list_commands(self, ctx: Context) -> list[str]:
        """Names of all commands, those of plug-ins among them."""
        self._add_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """The stand-in of a command; plug-ins are looked for where it is not built in."""
        if cmd_name not in self.commands:
            self._add_plugins()
        return super().get_command(ctx, cmd_name)

    def _add_plugins(self) -> None:
        for name in root_commands():
            stand_in = TyperCommand(name, help="Of a plug-in.", rich_help_panel="Plug-ins")
            self.commands.setdefault(name, stand_in)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Find the command by name as usual, then put the real one in the place of its stand-in."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in if name is None else load_command(name), rest


def load_command(name: str) -> TyperCommand | TyperGroup:
    """Import a command's module and build the command from the module's `app`."""
    if name in COMMANDS:
        app = importlib.import_module(f"sensorium.cli.{COMMANDS[name].module}").app
    else:
        app = app_of(name)
    command = typer.main.get_command(app)
    command.name = name
    command.help = command.help or (COMMANDS[name].summary if name in COMMANDS else None)
    apply_rules(command)
    return command  # type: ignore[return-value]


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
    """Run the command line and return its exit code; user mistakes become one red line on stderr.

    With `SENSORIUM_DEBUG=1` they become tracebacks.
    """
    _write_unencodable_characters_escaped()
    asked = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        with warnings.catch_warnings():
            _print_warnings()
            result = app(asked, standalone_mode=False, prog_name="sensorium")
        sys.stdout.flush()
        if result == INTERRUPTED:  # which Typer makes of Ctrl-C
            return _fail(_interrupted(asked), INTERRUPTED)
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        return _leave_closed_pipe()
    except SystemExit as error:
        # Typer turns a closed pipe into this; shell completion leaves with 0.
        return _leave_closed_pipe() if error.code == 1 else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail(_interrupted(asked), INTERRUPTED)
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
    """Let each `SensoriumWarning` be one line on stderr, once; others appear as they do in Python."""
    as_usual, said = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, SensoriumWarning):
            as_usual(message, category, *place)
        elif str(message) not in said:
            said.add(str(message))
            note(f"note: {one_line(str(message))}")

    warnings.simplefilter("always", SensoriumWarning)
    warnings.showwarning = show  # type: ignore[assignment]


def _interrupted(asked: Sequence[str]) -> str:
    """Say how to go on with what was stopped."""
    words = tuple(asked)
    how = _AFTERWARDS.get(words[:2]) or _AFTERWARDS.get(words[:1]) or told_when_interrupted(words)
    if how is None:
        return "interrupted"
    again = words if words[0] != "train" or "--resume" in words else (*words, "--resume")
    return f"interrupted; {how}: {shlex.join(('sensorium', *again))}"


_GOES_ON, _ANEW = "what is done is kept, and this goes on", "nothing is kept, and this begins anew"
_AFTERWARDS: dict[tuple[str, ...], str] = {
    **{("data", name): _GOES_ON for name in ("prepare", "get")},
    **{("data", name): "remove the --out table, which is not whole, then" for name in ("dedup", "filter")},
    **{(name,): _GOES_ON for name in ("quickstart", "train", "embed")},
    **{(name,): _ANEW for name in ("eval", "draw", "speak", "align", "summarize")},
    ("transcribe",): "transcripts that were written are whole; this begins anew",
}
"""What a person who stopped a command is told; of the others there is nothing to tell."""


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
"""A file that is being written, as `core.files` names it: people know the name without."""
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
    """The reader has gone (`sensorium search ... | head`): stop quietly, also when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _write_unencodable_characters_escaped() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
