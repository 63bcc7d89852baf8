"""Help texts and messages reach the terminal as their source has them, brackets and all."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from sensorium.cli.app import COMMANDS, app, load_app, main
from sensorium.cli.parameters import as_written
from sensorium.core.errors import UsageError

WIDTHS = (80, 100, 200)


def commands() -> Iterator[tuple[list[str], list[str]]]:
    """Words that call each command, and what its source says of it and of its parameters."""
    roots = [([name], load_app(name)) for name in COMMANDS]
    for words, source in [([], app), *roots]:
        yield from below(words, typer.main.get_command(source))


def below(words: list[str], command: object) -> Iterator[tuple[list[str], list[str]]]:
    params = [one for one in command.params if not getattr(one, "hidden", False)]
    texts = [command.help or "", *(getattr(one, "help", None) or "" for one in params)]
    if not words:  # the root has gone through the door when it was built
        texts = [_without_escapes(text) for text in texts]
    yield words, texts
    for name, one in getattr(command, "commands", {}).items() if words else ():
        yield from below([*words, name], one)


def _without_escapes(text: str) -> str:
    return re.sub(r"\\(\[)", r"\1", text)


def occurs(said: list[str], shown: list[str]) -> bool:
    """Whether the words stand there in this order, others perhaps between them (of another column)."""
    rest = iter(shown)
    return all(word in rest for word in said)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("words", "texts"), [pytest.param(*one, id=" ".join(one[0]) or "root") for one in commands()]
)
def test_help_says_what_the_source_says(
    words: list[str],
    texts: list[str],
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERMINAL_WIDTH", str(width))
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    shown = re.sub(r"[│╭╮╰╯─]", " ", out).split()
    for text in texts:
        assert occurs(text.split(), shown), text
    assert "<bool>" not in out


@pytest.mark.parametrize(
    "text",
    [
        "[low high]: 95%",
        "[default: runs/RECIPE]",
        "see [bold]this[/bold]",
        r"a \[b] c",
        "x[0] y[i] [..] [/]",
        "[]",
    ],
)
def test_no_text_is_taken_for_markup(text: str) -> None:
    from rich.text import Text

    assert Text.from_markup(as_written(text)).plain == text


@pytest.mark.parametrize("name", ["photo[1].jpg", "[bold]x[/].png"])
@pytest.mark.parametrize(
    "words",
    [
        ["search", "NAME", "a frog"], ["data", "show", "NAME"], ["data", "prepare", "NAME", "-o", "t.lance"],
        ["caption", "NAME"], ["ask", "NAME", "What?"], ["transcribe", "NAME"],
        ["align", "series", "NAME", "NAME"],
        ["align", "speech", "NAME", "a text"], ["summarize", "NAME", "-o", "out"], ["train", "NAME.toml"],
        ["eval", "NAME"], ["models", "NAME"], ["embed", "NAME", "--model", "NAME"], ["bench", "NAME"],
    ],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_a_name_with_brackets_is_said_whole(
    words: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([one.replace("NAME", name) for one in words]) in (1, 2, 4)
    said = capsys.readouterr()
    assert said.out == ""
    assert name in said.err
    assert said.err.count("\n") == 1


def test_a_message_keeps_its_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(*_: object, **__: object) -> None:
        raise UsageError("expected [a, b]\nor [/c]: see \x1b[2Jx")

    monkeypatch.setattr("sensorium.cli.app.app", raising)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "error: expected [a, b] or [/c]: see \\x1b[2Jx\n"
