"""`align speech` and `align series` by the real command line, without a synthesiser."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sensorium.cli import main

LABELS = ["<pad>", *"abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture
def emissions(tmp_path: Path) -> Path:
    heard = "__the_cat_sat__"
    probs = np.full((len(heard), len(LABELS)), 0.001)
    probs[np.arange(len(heard)), [0 if char == "_" else LABELS.index(char) for char in heard]] = 1
    log_probs = np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    np.savez(tmp_path / "e.npz", log_probs=log_probs, labels=LABELS, frame_s=0.1)
    return tmp_path / "e.npz"


def test_speech_prints_json_and_writes_subtitles(
    emissions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("The cat sat.")
    out = tmp_path / "out.srt"
    arguments = ["align", "speech", "x.wav", str(tmp_path / "text.txt"), "--emissions", str(emissions)]
    assert main([*arguments, "-o", str(out), "--json"]) == 0
    words = json.loads(capsys.readouterr().out)
    assert [set(word) for word in words] == [{"word", "start_s", "end_s", "confidence"}] * 3
    assert [(word["word"], word["start_s"], word["end_s"]) for word in words] == [
        ("The", 0.2, 0.5),
        ("cat", 0.6, 0.9),
        ("sat.", 1.0, 1.3),
    ]
    assert out.read_text() == "1\n00:00:00,200 --> 00:00:01,300\nThe cat sat.\n"
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[0] == "word\tstart_s\tend_s\tconfidence"


def test_series_prints_json_draws_and_warps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = np.arange(32_000) / 16_000
    chirp = (0.3 * np.sin(2 * np.pi * (200 * times + 150 * times**2)) * np.abs(np.sin(5 * times))).astype(
        np.float32
    )
    soundfile.write(tmp_path / "a.wav", chirp, 16_000)
    soundfile.write(tmp_path / "b.wav", np.concatenate([np.zeros(8000, np.float32), chirp]), 16_000)
    files = [str(tmp_path / name) for name in ("a.wav", "b.wav", "p.png", "w.wav")]
    assert main(["align", "series", *files[:2], "--plot", files[2], "--warp", files[3], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["a"]["duration_s"], found["b"]["duration_s"]) == ("sound", 2.0, 2.5)
    assert len(found["path"]) == 100
    assert found["path"][60][1] == pytest.approx(found["path"][60][0] + 0.5, abs=0.06)
    assert soundfile.info(files[3]).frames == 32_000
    assert main(["align", "series", *files[:2]]) == 0
    assert "confidence" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["speech", "x.wav", "words", "-o", "out.doc"], 2, "out.doc"),
        (["speech", "x.wav", ""], 2, "no words"),
        (["speech", "x.wav", "none.txt"], 4, "none.txt"),
        (["speech", "x.wav", "words", "--emissions", "none.npz"], 4, "none.npz"),
        (["series", "none.wav", "none.wav"], 4, "none.wav"),
        (["series", "none.wav", "none.wav", "--by", "smell"], 2, "smell"),
        (["series", "none.wav", "none.wav", "--plot", "p.gif"], 2, "p.gif"),
    ],
)
def test_mistakes_are_one_line_with_their_code(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.wav").write_bytes(b"is there, and never read")
    assert main(["align", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
