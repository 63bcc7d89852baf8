"""`sensorium transcribe` by the real command line, on a tiny random recogniser."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import tiny_whisper
from sensorium.cli import main


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    folder = tiny_whisper.write_hf(tmp_path / "model", tiny_whisper.random_state())
    for name, seed in (("a", 3), ("b", 4)):
        noise = np.random.default_rng(seed).normal(0, 0.1, 12_800).astype(np.float32)
        soundfile.write(tmp_path / f"{name}.wav", noise, 16_000)
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.float32), 16_000)
    (tmp_path / "c.wav").write_text("no sound")
    return ["transcribe", "--model", str(folder), "--language", "en"]


def test_silence_in_every_format(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "silence.wav")
    assert main([*arguments, path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "text": "",
        "segments": [],
        "language": "en",
        "duration_s": 0.5,
    }
    assert main([*arguments, path, "--vtt"]) == 0
    assert capsys.readouterr().out.strip() == "WEBVTT"
    assert main([*arguments, path, "-o", str(tmp_path / "out.srt")]) == 0
    assert (tmp_path / "out.srt").read_text() == ""


def test_what_cannot_be_read_is_told_and_the_others_go_on(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tmp_path / name) for name in ("silence.wav", "c.wav", "gone.wav")]
    assert main([*arguments, *files, "--json"]) == 3
    printed = capsys.readouterr()
    assert [one["uri"] for one in json.loads(printed.out)] == files[:1]
    assert "c.wav" in printed.err
    assert "gone.wav" in printed.err
    assert main([*arguments, files[1]]) == 1
    assert main([*arguments, files[2]]) == 4
    assert capsys.readouterr().err.count("error:") == 2


def test_a_folder_takes_a_file_for_each(arguments: list[str], tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.wav", "silence.wav")]
    assert main([*arguments, *files, "--json", "-o", str(tmp_path / "out")]) == 0
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()}
    assert set(found) == {"a.json", "silence.json"}
    assert found["a.json"]["duration_s"] == 0.8


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["a.wav", "--srt", "--vtt"], "one of --json, --srt and --vtt"),
        (["a.wav", "b.wav", "--srt"], "-o FOLDER"),
        (["a.wav", "x/a.wav", "-o", "out"], "same name"),
        (["a.wav", "-o", "out.doc"], "out.doc"),
        (["a.wav", "--language", "xx"], "'xx'"),
        (["a.wav", "--plot", "out.jpg"], "out.jpg"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    arguments: list[str],
    extra: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where a.wav is
    assert main([*arguments, *extra]) == 2
    assert message in capsys.readouterr().err
