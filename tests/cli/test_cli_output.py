import io
import json
import re

import numpy as np
import pytest

from sensorium.cli import output
from sensorium.cli.output import TerminalProgress, emit_json, emit_pairs, emit_table


def test_json_is_one_line_and_keeps_other_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"text": "лягушка 蛙", "n": np.int64(3), "vector": np.array([0.5, -1.0], np.float32)})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"text": "лягушка 蛙", "n": 3, "vector": [0.5, -1.0]}
    assert "蛙" in out


def test_a_table_that_goes_to_a_file_is_tab_separated_on_one_line_a_row(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emit_table(["name", "score"], [("a\tfrog\nand more", 0.25), ("b", 1)])
    assert capsys.readouterr().out == "name\tscore\na frog and more\t0.2500\nb\t1\n"


def test_a_table_on_a_terminal_takes_brackets_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    emit_table(["name"], [("[bold]not markup[/bold]",)])
    assert "[bold]not markup[/bold]" in capsys.readouterr().out


def test_pairs_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    emit_pairs({"a": 1, "long": "two"})
    assert capsys.readouterr().out == "a     1\nlong  two\n"


def test_away_from_a_terminal_progress_is_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as progress:
        for done in range(1001):
            progress(done, 1000, f"working {done}")
        progress(0, 5, "another")
        progress(5, 5, "another")
    assert capsys.readouterr().err.splitlines() == [
        "working 0",
        "working 1000: 1,000/1,000",
        "another",
        "another: 5/5",
    ]


def test_a_long_task_reports_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(output.time, "monotonic", lambda: float(next(clock)))
    with TerminalProgress() as progress:
        for done in range(10):
            progress(done, None, "reading")
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_a_bar_is_drawn_on_a_terminal_and_new_work_gets_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with TerminalProgress() as progress:
        for done in range(8):
            progress(done, 7, "first [x]")
        progress(0, None, "second")
    text = screen.getvalue()
    assert "first [x]" in text
    assert "7/7" in text
    assert "second" in text


STRANGE = "a\x1b[31mred\x1b[0m\x07 \x9b2J \u202egpj.exe\u202c caf\udce9\r\nfrog"


def test_text_of_strangers_steers_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    emit_table(["caption"], [(STRANGE,)])
    emit_pairs({"caption": STRANGE})
    output.note(STRANGE)
    output.emit_text(STRANGE)
    emit_json({"caption": STRANGE, STRANGE: 1})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    emit_table(["caption"], [(STRANGE,)])
    output.write_stream([STRANGE])
    out, errors = capsys.readouterr()
    drawn = re.sub("\x1b\\[[01]m", "", out)  # the heading in bold
    assert all(one.isprintable() or one in "\n\t" for one in drawn + errors)
    assert "\\x1b[31mred" in out
    out.encode()


def test_json_keeps_what_it_was_given_and_is_json_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"caption": STRANGE, "good": "蛙 \U0001f438", "bad": [float("nan"), np.float32("inf"), 0.5]}
    emit_json(value)
    found = json.loads(capsys.readouterr().out)
    assert found == {**value, "bad": [None, None, 0.5]}
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", latin)
    emit_json({"good": value["good"]})
    latin.seek(0)
    assert json.loads(latin.read()) == {"good": value["good"]}


def test_a_table_on_a_terminal_is_a_line_a_row_and_cut_to_its_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    emit_table(["row", "caption"], [(place, "a very long caption " * 20) for place in range(3)])
    lines = re.sub("\x1b\\[[01]m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 60
    assert any(line.split() == ["row", "caption"] for line in lines)
    assert sum("a very long caption" in line and "…" in line for line in lines) == 3
