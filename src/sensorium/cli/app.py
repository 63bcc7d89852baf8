"""The root command: which commands there are, where they live, and how failures leave the program.

A command's module is imported when that command is called, so that `sensorium --help` answers at once; each
module holds a Typer `app` and keeps its own heavy imports inside its functions.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from sensorium import __version__
from sensorium.core.errors import NotFoundError, SensoriumError
from sensorium.core.printable import one_line

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter

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
        _show_as_written(self)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Find the command by name as usual, then put the real one in the place of its stand-in."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in if name is None else load_command(name), rest


def load_command(name: str) -> TyperCommand | TyperGroup:
    """Import a command's module and build the command from the module's `app`."""
    module = importlib.import_module(f"sensorium.cli.{COMMANDS[name].module}")
    command = typer.main.get_command(module.app)
    command.name = name
    command.help = command.help or COMMANDS[name].summary
    _show_as_written(command)
    return command  # type: ignore[return-value]


def _show_as_written(command: Command) -> None:
    """Let `--help` of a command and of those below it show the texts of the source, and no type of a flag."""
    command.help = _as_written(command.help or "")
    for parameter in command.params:
        parameter.help = _as_written(getattr(parameter, "help", None) or "")  # type: ignore[attr-defined]
    get_params = command.get_params  # which adds --help

    def without_flag_types(ctx: Context) -> list[Parameter]:
        parameters = get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters

    command.get_params = without_flag_types  # type: ignore[method-assign]
    for one in getattr(command, "commands", {}).values():
        _show_as_written(one)


def _as_written(text: str) -> str:
    r"""Make a help text appear as its source has it: brackets are no markup, lines break where they must.

    Example:
        >>> _as_written("A line\n    and its rest; [low high]: 95%.\n\n    More.")
        'A line and its rest; \\[low high]: 95%.\n\nMore.'
    """
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return _RICH_TAG.sub(r"\1\1\\\2", "\n\n".join(paragraphs).strip())


_RICH_TAG = re.compile(r"(\\*)(\[[a-zA-Z#/@][^\[]*?\])")
"""What Rich takes for markup, with the backslashes before it (see `rich.markup.escape`)."""


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
        result = app(asked, standalone_mode=False, prog_name="sensorium")
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        return _leave_closed_pipe()
    except SystemExit as error:
        # Typer turns a closed pipe into this; shell completion leaves with 0.
        return _leave_closed_pipe() if error.code == 1 else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
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


def _usage_message(error: typer.TyperException) -> str:
    message = error.format_message().strip()
    context = getattr(error, "ctx", None)
    if not message or context is None:
        return message
    return f"{message.rstrip('.')}; see '{context.command_path} --help'"


def _system_message(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


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
