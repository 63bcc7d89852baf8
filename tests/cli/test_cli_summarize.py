"""`sensorium summarize` by the real command line."""

import json
from pathlib import Path

import pytest
import soundfile

from sensorium.cli import main
from tiny_assistants import write_run
from tiny_films import beeps, highlight_film, scene, write_film


def test_json_is_what_was_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    highlight_film(tmp_path / "film.mp4", 3, num_segments=6)
    out = tmp_path / "deep" / "out"
    arguments = ["summarize", str(tmp_path / "film.mp4"), "-o", str(out), "--length", "30%", "--json"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert {"shots", "chosen", "chapters", "reel"} <= set(found)
    assert Path(found["reel"]) == out / "reel.mp4"
    assert all(
        Path(found[key]).is_file() for key in ("reel", "keyframes", "vtt", "ffmetadata", "edl", "text")
    )
    assert {"start_s", "end_s"} <= set(found["shots"][0])
    assert "writing the reel" in said.err


def test_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_film(tmp_path / "film.mp4", scene(1, 30))
    assert main(["summarize", str(film), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split("\t") == ["start", "end", "score", "why"]
    assert "reel.mp4" in said.err


def test_chapters_are_titled_by_what_a_model_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_film(tmp_path / "film.mp4", scene(1, 30))
    run = write_run(tmp_path / "runs" / "seeing", {"caption": ["en"]})
    arguments = ["summarize", str(film), "-o", str(tmp_path / "out"), "--json"]
    told = []
    for writer in ([], ["--writer", str(run)]):
        assert main([*arguments, *writer]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert [one["captions"] for one in told] == ["measured", "written"]
    assert told[1]["chapters"] != told[0]["chapters"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--writer", "nowhere"], 4, "nowhere"),
        (["--length", "soon"], 2, "length 'soon'"),
        (["--query", "a frog"], 2, "--model"),
        (["--captions", "table"], 2, "--model"),
        (["--model", "nowhere"], 4, "nowhere"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    film = write_film(tmp_path / "film.mp4", scene(1, 5))
    assert main(["summarize", str(film), "-o", str(tmp_path / "out"), *arguments]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_no_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "talk.wav", beeps(1.0, [0.2]), 48_000)
    assert main(["summarize", str(tmp_path / "talk.wav"), "-o", str(tmp_path / "out")]) == 1
    assert "talk.wav: wav, not a video" in capsys.readouterr().err
    assert main(["summarize", str(tmp_path / "none.mp4"), "-o", str(tmp_path / "out")]) == 4
    assert not (tmp_path / "out").exists()
