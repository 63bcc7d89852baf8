"""Every command with wrong input: one line on stderr, no traceback, the right exit code, nothing written."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sensorium.cli import main
from sensorium.cli.app import _interrupted
from sensorium.cli.parameters import check_result
from sensorium.core.errors import SensoriumWarning, UsageError, warn
from sensorium.data.table.table import Table
from tiny_assistants import write_picture, write_run, write_sound

USAGE, NOT_FOUND, FAILED = 2, 4, 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    (folder / "folder").mkdir()
    write_picture(folder / "a.png")
    write_picture(folder / "b.png", 2)
    write_sound(folder / "a.wav")
    (folder / "empty.png").write_bytes(b"")
    (folder / "noise.bin").write_bytes(b"\x00\xfe\x01" * 500)
    (folder / "notes.txt").write_text("hello")
    Table.create(folder / "empty.lance")
    write_run(folder / "run", {"caption": ["en"], "ask": ["en"], "translate": ["fr"]})
    write_run(folder / "voice", {"speak": ["en"], "draw": ["en"]}, ["image", "audio"])
    return folder


MEDIA = [
    ["caption", "-m", "run", "X"], ["ask", "-m", "run", "X", "What?"], ["transcribe", "X"],
    ["summarize", "X", "-o", "out"],
    ["align", "series", "X", "a.wav"], ["align", "speech", "X", "words"],
]  # fmt: skip
TABLES = [
    ["search", "X", "a frog"], ["data", "show", "X"], ["data", "dedup", "X"],
    ["data", "filter", "X", "--min-px", "1"], ["data", "index", "X"], ["data", "questions", "X"],
    ["train", "media", "--set", "data.table=X", "-o", "out"],
]  # fmt: skip
RUNS = [
    ["eval", "X"],
    ["models", "X"],
    ["models", "X", "--pack", "out"],
    ["embed", "empty.lance", "--model", "X"],
]


def check(
    world: Path,
    words: list[str],
    codes: tuple[int, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: int = 1,
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    before = sorted(os.listdir(world))
    assert main(words) in codes
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.splitlines()[-1].startswith("error: ")
    assert said.err.count("\n") <= lines
    assert sorted(os.listdir(world)) == before


@pytest.mark.parametrize("name", ["none.png", "folder"])
@pytest.mark.parametrize("words", MEDIA, ids=lambda words: " ".join(words[:2]))
def test_a_medium_that_is_no_file(
    words: list[str],
    name: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [name if one == "X" else one for one in words]
    check(world, given, (USAGE, NOT_FOUND, FAILED), name, monkeypatch, capsys)


@pytest.mark.parametrize("name", ["empty.png", "noise.bin"])
@pytest.mark.parametrize("words", [MEDIA[0], MEDIA[1], *MEDIA[3:]], ids=lambda words: " ".join(words[:2]))
def test_a_medium_that_cannot_be_read(
    words: list[str],
    name: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [name if one == "X" else one for one in words]
    check(world, given, (FAILED,), name, monkeypatch, capsys, lines=3)  # what it was doing is said before


@pytest.mark.parametrize("name", ["none.lance", "folder", "a.png"])
@pytest.mark.parametrize("words", TABLES, ids=lambda words: " ".join(words[:2]))
def test_a_table_that_is_none(
    words: list[str],
    name: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [one.replace("X", name) for one in words]
    check(world, given, (NOT_FOUND if name == "none.lance" else FAILED,), name, monkeypatch, capsys)


@pytest.mark.parametrize("name", ["none", "folder", "a.png"])
@pytest.mark.parametrize("words", RUNS, ids=lambda words: " ".join(words))
def test_a_run_that_is_none(
    words: list[str],
    name: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [name if one == "X" else one for one in words]
    check(world, given, (NOT_FOUND, FAILED), name, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("caption -m run a.png --temperature nan", USAGE, "--temperature"),
        ("caption -m run a.png --temperature inf", USAGE, "--temperature inf: expected a finite number"),
        ("caption -m run a.wav --every inf", USAGE, "--every inf"),
        ("caption -m run a.png --max-tokens -1", USAGE, "--max-tokens"),
        ("caption -m run a.png --max-tokens x", USAGE, "--max-tokens"),
        ("caption -m run a.png --seed -1", USAGE, "--seed"),
        ("caption -m run notes.txt", USAGE, "notes.txt is a text"),
        ("generate hello --repetition-penalty inf", USAGE, "--repetition-penalty inf"),
        ("generate hello --schema none.json", NOT_FOUND, "none.json"),
        ("generate hello --schema a.png", USAGE, "not UTF-8 text"),
        ("generate hello --schema notes.txt --choice a", USAGE, "exclude each other"),
        ("generate hello --system x --continue", USAGE, "--system"),
        ("generate notes.txt", USAGE, "'notes.txt' is a file; for the text in it put <"),
        ("translate --to fr notes.txt -m run", USAGE, "'notes.txt' is a file"),
        ("chat -m run --voice x", USAGE, "--voice is for --speak"),
        ("chat -m run -o folder", USAGE, "--out is for --speak"),
        ("speak hello -m voice -o a.png/x.wav", USAGE, "a.png is not a folder"),
        ("draw hello -m voice -o a.png/x.png", USAGE, "a.png is not a folder"),
        ("transcribe a.wav --srt -o x.txt", USAGE, "name two formats"),
        ("transcribe a.wav -o a.png/x.txt", USAGE, "a.png is not a folder"),
        ("transcribe a.wav --plot a.png/x.png", USAGE, "a.png is not a folder"),
        ("transcribe a.wav -m none", NOT_FOUND, "none"),
        ("transcribe a.wav --device cuda:99", USAGE, "cuda:99"),
        ("data dedup empty.lance --cosine 0.5", USAGE, "--cosine is for --by embedding"),
        ("data dedup empty.lance --model run", USAGE, "--model is for --by embedding"),
        ("data dedup empty.lance --distance 3", USAGE, "--distance is for --by phash"),
        ("data dedup empty.lance --by phash --distance 65", USAGE, "--distance"),
        ("data dedup empty.lance --by embedding --cosine nan", USAGE, "--cosine"),
        ("data dedup empty.lance -o empty.lance", FAILED, "exists"),
        ("data filter empty.lance --min-words 5 --max-words 1", USAGE, "no row would be kept"),
        ("data filter empty.lance --min-px 3 --model run", USAGE, "--model is for --min-clip-score"),
        ("train none", NOT_FOUND, "none"),
        ("train folder", FAILED, "folder"),
        ("train media --set x", USAGE, "x"),
        ("train media --set data.table=empty.lance -o out", FAILED, "empty.lance has no rows"),
        ("train media --set train.lr=nan", USAGE, "train.lr"),
        ("train media -o a.png/x", USAGE, "a.png is not a folder"),
        ("quickstart -o a.png/x", USAGE, "a.png is not a folder"),
        ("bench none", NOT_FOUND, "none"),
        ("models --pack out", USAGE, "--pack needs a run"),
    ],
)
def test_options_are_honoured_or_refused(
    words: str,
    code: int,
    message: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("SENSORIUM_MODEL", raising=False)
    check(world, words.split(), (code,), message, monkeypatch, capsys)


def test_captions_of_mixed_files_are_those_that_can_be(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    names = ["a.png", "a.wav", "empty.png", "notes.txt", "folder", "none.png", "b.png"]
    assert main(["caption", "-m", "run", "--max-tokens", "3", *names]) == 3
    said = capsys.readouterr()
    assert [line.split("\t")[0] for line in said.out.splitlines()] == ["a.png", "a.wav", "b.png"]
    for name in ("empty.png", "notes.txt", "folder", "none.png"):
        assert sum(name in line for line in said.err.splitlines()) == 1
    assert main(["caption", "-m", "run", "notes.txt", "none.png"]) == 1


def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_result("--out", tmp_path / "new" / "a.png")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UsageError, match=f"--out .*: {tmp_path} is not writable"):
        check_result("--out", tmp_path / "new" / "a.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "stamps", "-o", "my run"], "continue, run: sensorium train stamps -o 'my run' --resume"),
        (["train", "stamps", "--resume"], "continue, run: sensorium train stamps --resume"),
        (["data", "prepare", "x", "-o", "t"], "continue, run: sensorium data prepare x -o t"),
        (["embed", "t"], "continue, run: sensorium embed t"),
        (["quickstart"], "continue, run: sensorium quickstart"),
        (["summarize", "a.mp4", "-o", "x"], "start again, run: sensorium summarize a.mp4 -o x"),
        (
            ["data", "scenes", "-o", "t"],
            "remove the --out table, which is incomplete, then run: sensorium data scenes -o t",
        ),
    ],
)
def test_what_was_interrupted_says_how_to_go_on(words: list[str], said: str) -> None:
    assert _interrupted(words).startswith("interrupted; ")
    assert _interrupted(words).endswith(said)
    assert _interrupted(["chat"]) == "interrupted"


def test_an_interrupt_is_one_line_and_130(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sensorium.data.ingest.prepare as prepare\n"
        "prepare.prepare = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT)\n"
        "from sensorium.cli import main\n"
        f"sys.exit(main(['data', 'prepare', {str(tmp_path)!r}, '-o', 't.lance']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "interrupted; what is done is kept; to continue, run: sensorium data prepare"
    )


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/runs/.model.safetensors.123.tmp")

    monkeypatch.setattr("sensorium.cli.app.app", full)
    assert main(["doctor"]) == FAILED
    said = capsys.readouterr().err
    assert said == (
        "error: no space is left on the disk; make room and give the same command again: "
        "/runs/model.safetensors\n"
    )


def test_a_warning_is_one_line_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def less(*_: object, **__: object) -> None:
        for _number in range(3):
            warn("18 sounds were not\nembedded [1]")

    monkeypatch.setattr("sensorium.cli.app.app", less)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().err == "note: 18 sounds were not embedded [1]\n"
    with pytest.warns(SensoriumWarning, match="18 sounds"):
        less()
