"""The root command in a process of its own, as a person calls it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sensorium.cli.app import COMMANDS, load_command, main
from sensorium.core.errors import NotFoundError, SensoriumError, UsageError

TOO_HEAVY_FOR_HELP = (
    "torch",
    "lance",
    "lancedb",
    "pyarrow",
    "numpy",
    "av",
    "PIL",
    "numba",
    "matplotlib",
)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sensorium", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("sensorium.cli.app.app", raising)


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS), ["data", "prepare"]])
def test_help_is_answered_without_importing_anything_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from sensorium.cli import main\n"
        f"code = main({[*arguments, '--help']!r})\n"
        f"print('loaded', *(name for name in {TOO_HEAVY_FOR_HELP!r} if name in sys.modules))\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: sensorium" in done.stdout
    assert done.stdout.rpartition("loaded")[2].split() == []


def test_every_command_is_listed_with_its_summary() -> None:
    overview = re.sub(r"[│\s]+", " ", run("--help").stdout)
    for name, entry in COMMANDS.items():
        assert f" {name} " in overview
        assert entry.summary in overview


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_summary_is_the_first_line_of_the_command_s_own_help(name: str) -> None:
    command = load_command(name)
    assert (command.help or "").strip().partition("\n")[0] == COMMANDS[name].summary


def test_without_arguments_the_overview_is_shown() -> None:
    done = run()
    assert done.returncode == 0
    assert "quickstart" in done.stdout


def test_the_version_is_printed_alone() -> None:
    assert run("--version").stdout == "0.1.0\n"


def test_a_wrong_command_is_one_line_with_the_nearest_and_exit_2() -> None:
    done = run("serch")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Did you mean 'search'" in done.stderr


def test_a_wrong_option_is_one_line_and_exit_2() -> None:
    done = run("doctor", "--jsn")
    assert done.returncode == 2
    assert (
        done.stderr == "error: No such option: --jsn Did you mean --json?; see 'sensorium doctor --help'\n"
        or (done.stderr.count("\n") == 1 and "--jsn" in done.stderr)
    )


def test_a_missing_table_is_one_line_and_exit_4(tmp_path: Path) -> None:
    done = run("search", str(tmp_path / "none.lance"), "a frog")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert done.stderr.startswith("error: no ")


def test_debugging_shows_the_traceback(tmp_path: Path) -> None:
    done = run("search", str(tmp_path / "none.lance"), "a frog", SENSORIUM_DEBUG="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("give one\nof two"), 2, "error: give one of two"),
        (NotFoundError("no such row"), 4, "error: no such row"),
        (SensoriumError("it failed"), 1, "error: it failed"),
        (PermissionError(13, "Permission denied", "/secret"), 1, "error: Permission denied: /secret"),
        (
            FileNotFoundError(2, "No such file or directory", "gone"),
            4,
            "error: No such file or directory: gone",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_kind_of_failure_has_its_line_and_its_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("SENSORIUM_DEBUG", raising=False)
    fail_with(monkeypatch, error)
    assert main(["doctor"]) == code
    assert capsys.readouterr().err == said + "\n"


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_an_interrupt_during_work_ends_with_130() -> None:
    code = (
        "import os, signal, sys\n"
        "from sensorium.cli import doctor\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in background jobs
        "doctor.run_checks = lambda: os.kill(os.getpid(), signal.SIGINT) or []\n"
        "from sensorium.cli import main\n"
        "sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert signal.SIGINT


def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m sensorium doctor --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    assert done.stderr == ""


def test_doctor_reports_versions_and_checks() -> None:
    done = run("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["ok"]
    assert found["versions"]["sensorium"] == "0.1.0"
    assert set(found["checks"]) == {"image", "sound", "table", "device", "cache"}


def test_bench_lists_scripts_with_their_first_line() -> None:
    listed = json.loads(run("bench", "--json").stdout)
    assert listed["help_time"].startswith("Time")
    assert run("bench", "nothing").returncode == 4
