"""`align phrases` and `data scenes`: results on stdout, mistakes in one line."""

import json
from pathlib import Path

import pytest

from region_world import small_grounder, square_sample
from sensorium.cli import main
from sensorium.models.checkpoint import save


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save(small_grounder(), tmp_path / "run")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "squares.png"
    path.write_bytes(square_sample(0, "s").image or b"")
    return path


def test_phrases_come_as_json_and_as_a_picture(run: Path, picture: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.png"
    words = ["the red square and a blue square", "--model", str(run), "--json", "-o", str(out)]
    assert main(["align", "phrases", str(picture), *words]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [(one["phrase"], one["span"]) for one in found] == [
        ("the red square", [0, 14]),
        ("a blue square", [19, 32]),
    ]
    assert all(one["box"] is None or len(one["box"]) == 4 for one in found)
    assert {"phrase", "span", "box", "score"} <= found[0].keys()
    assert out.read_bytes().startswith(b"\x89PNG")
    assert str(out) in said.err


def test_given_phrases_are_looked_for(run: Path, picture: Path, capsys) -> None:
    words = ["the red square", "--phrases", "red; square", "--model", str(run), "--json", "--one-to-one"]
    assert main(["align", "phrases", str(picture), *words]) == 0
    assert [one["phrase"] for one in json.loads(capsys.readouterr().out)] == ["red", "square"]


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"text": "on the"}, 2, "no phrase"),
        ({"image": "nowhere.png"}, 4, "nowhere.png"),
        ({"model": None}, 4, "sensorium train grounding"),
        ({"phrases": "a cat"}, 2, "'a cat' does not occur"),
        ({"model": "tiny"}, 1, "holds a joint embedding; this needs a grounder"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, picture: Path, tiny_run: Path, capsys, change: dict, code: int, reason: str
) -> None:
    model = {"model": str(run), **change}["model"]
    model = str(tiny_run) if model == "tiny" else model
    words = ["align", "phrases", change.get("image", str(picture)), change.get("text", "the red square")]
    words += ["--model", model] if model else []
    words += ["--phrases", change["phrases"]] if "phrases" in change else []
    assert main(words) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert reason in said[0]


def test_a_grounder_is_refused_where_vectors_are_needed(run: Path, picture: Path, capsys) -> None:
    assert main(["embed", str(picture), "--model", str(run), "-o", str(picture.with_suffix(".npy"))]) == 1
    assert "holds a grounder; this needs a joint embedding" in capsys.readouterr().err


@pytest.mark.parametrize("things", ["5", "0-2", "4-3", "a-b", "3-9"])
def test_a_range_that_is_none_is_refused(things: str, tmp_path: Path, capsys) -> None:
    assert main(["data", "scenes", "-o", str(tmp_path / "t.lance"), "--things", things]) == 2
    assert "expected two numbers from 1 to 6" in capsys.readouterr().err


def test_unknown_pictures_are_named(tmp_path: Path, capsys) -> None:
    assert main(["data", "scenes", "-o", str(tmp_path / "t.lance"), "--pictures", "photos"]) == 2
    assert "no images from 'photos'; known: emoji, stamps, digits" in capsys.readouterr().err


@pytest.mark.network
@pytest.mark.slow
def test_scenes_are_made_and_equal_options_give_equal_rows(tmp_path: Path, capsys) -> None:
    from sensorium.data.table.table import Table

    options = ["-n", "7", "--held-out", "3", "--size", "64", "--seed", "5", "--json"]
    for name in ("a", "b"):
        assert main(["data", "scenes", "-o", str(tmp_path / name), *options]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] == 16
    first, second = Table.open(tmp_path / "a"), Table.open(tmp_path / "b")
    assert first.ids == second.ids
    sources = list(first.column("source"))
    assert sources == ["scenes"] * 7 + [
        f"scenes-{part}" for part in ("seen", "combinations", "objects") for _ in "123"
    ]
    for row in first.rows(range(16)):
        assert len(str(row.meta["types"]).split()) == len(row.regions)
        assert all(0 <= v <= 64 for region in row.regions for box in region.boxes for v in box)
    assert any(not region.boxes for row in first.rows(range(16)) for region in row.regions)
