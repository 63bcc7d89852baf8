"""`embed`, `search` and `models` by the real command line, on the tiny world."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sensorium.cli import main
from sensorium.core.errors import UsageError
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.media import Text
from tiny_world import TINY_NAMES, draw_shape, play_tone


@pytest.fixture
def embedded(tiny_table: Table, tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["embed", str(tiny_table.path), "--model", str(tiny_run), "--language", "en", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == {"image": 8, "text": 8, "audio": 4, "speech": 3}
    assert found["failed"] == 0
    return tiny_table.path


def search(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, object]]:
    assert main(["search", *map(str, arguments), "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert all(set(hit) == {"id", "score", "uri", "texts"} for hit in hits)
    return hits


def test_text_finds_its_picture_without_naming_the_model(
    embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in TINY_NAMES:
        hits = search(capsys, embedded, *name.split(), "-k", 3, "--field", "image")
        assert len(hits) == 3
        assert hits[0]["texts"] == {"en": name, "de": f"nummer {TINY_NAMES.index(name)}"}


def test_a_picture_and_a_sound_find_their_rows(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "query.png").write_bytes(draw_shape("a blue circle", 64))
    (tmp_path / "query.wav").write_bytes(play_tone("a green square"))
    assert (
        search(capsys, embedded, tmp_path / "query.png", "-f", "image")[0]["texts"]["en"] == "a blue circle"
    )
    assert (
        search(capsys, embedded, tmp_path / "query.wav", "-f", "image")[0]["texts"]["en"] == "a green square"
    )


def test_like_and_vector_need_no_model(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_run: Path
) -> None:
    hits = search(capsys, embedded, "--like", 0, "-k", 20)
    assert len(hits) == 7
    assert main(["embed", "--text", "a red circle", "-m", str(tiny_run), "-o", str(tmp_path / "v.npy")]) == 0
    capsys.readouterr()
    assert np.load(tmp_path / "v.npy").shape == (1, 19)
    by_vector = search(capsys, embedded, "--vector", tmp_path / "v.npy")
    assert by_vector == search(capsys, embedded, "a red circle")


def test_arithmetic_adds_and_subtracts(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = search(capsys, embedded, "a red circle", "-", "a red circle", "+", "a blue square", "-f", "image")
    assert hits[0]["texts"]["en"] == "a blue square"


def test_the_filter_and_the_least_relevance_narrow_the_result(
    embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(search(capsys, embedded, "a red circle", "--where", "has_audio")) == 4
    few = search(capsys, embedded, "a red circle", "--min-score", 0.9, "-f", "image")
    assert 1 <= len(few) < 8


def test_the_sheet_and_the_page_are_written(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search(capsys, embedded, "a red circle", "--sheet", tmp_path / "s.png", "--html", tmp_path / "s.html")
    with Image.open(tmp_path / "s.png") as image:
        assert image.format == "PNG"
    assert (tmp_path / "s.html").read_text().startswith("<!doctype html>")


def test_the_table_of_hits_is_tab_separated(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(embedded), "a red circle", "-k", "2", "--min-score", "0", "-f", "image"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "row\tscore\trelevance\tcaption\turi"
    assert lines[1].startswith("0\t")
    assert lines[1].endswith("\ta red circle\ta_red_circle.png")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "nothing to search for"),
        (["a", "+"], 2, "beside each + and -"),
        (["x", "-k", "0"], 2, "k=0"),
        (["x", "--where", "nonsense = 3"], 2, "nonsense"),
        (["x", "--field", "smell"], 2, "smell"),
        (["--like", "99"], 4, "no row '99'"),
        (["--vector", "none.npy"], 4, "no file none.npy"),
        (["x", "--model", "nowhere"], 4, "nowhere"),
        (["x", "--sheet", "out.bmp"], 2, "ends in .png"),
        (["x", "--device", "tpu"], 2, "tpu"),
    ],
)
def test_mistakes_are_one_line_with_their_code(
    embedded: Path, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(embedded), *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_table_without_vectors_says_what_to_do(
    tiny_table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(tiny_table.path), "a frog"]) == 4
    assert "sensorium embed" in capsys.readouterr().err


def test_embedding_goes_on_with_new_rows_and_reports_bad_ones(
    embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Table.open(embedded).add(
        [Sample("new.png", image=draw_shape("a red circle", 60)), Sample("bad", image=b"\x89PNG\r\n\x1a\n")]
    )
    assert main(["embed", str(embedded), "--language", "en", "--json"]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"] == {"image": 1, "text": 0, "audio": 0, "speech": 0}
    assert "row 9, image:" in captured.err
    assert main(["embed", str(embedded), "--language", "de"]) == 2


def test_files_become_vectors_as_json_and_bad_ones_are_named(
    tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(draw_shape("a red circle"))
    bad.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    assert main(["embed", str(good), str(bad), "--text", "a red circle", "-m", str(tiny_run), "--json"]) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [entry["uri"] for entry in found] == [str(good), str(bad), "a red circle"]
    assert np.linalg.norm(found[0]["vector"]) == pytest.approx(1, abs=1e-5)
    assert found[1]["vector"] is None
    assert str(bad) in captured.err


def test_embed_refuses_what_it_cannot_honour(tmp_path: Path, tiny_run: Path, tiny_table: Table) -> None:
    model = ["--model", str(tiny_run)]
    assert main(["embed", *model]) == 2
    assert main(["embed", "--text", "x", *model]) == 2
    assert main(["embed", str(tmp_path / "none.png"), "--json", *model]) == 4
    assert main(["embed", str(tiny_table.path), "-o", "x.npy", *model]) == 2
    assert main(["embed", str(tiny_table.path), "--field", "video", *model]) == 2
    assert main(["embed", str(tiny_table.path)]) == 4


def test_models_lists_runs_and_shows_a_card(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--runs", str(tiny_run.parent), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["title"] for run in found["runs"] if run["path"] == str(tiny_run)] == ["Tiny"]
    assert "image-cnn" in found["encoders"]
    assert main(["models", str(tiny_run)]) == 0
    assert capsys.readouterr().out.startswith("# Tiny")
    assert main(["models", str(tiny_run.parent / "none")]) == 4


def test_json_holds_the_fields_that_are_asked_for(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["search", str(embedded), "a red circle", "--json"]
    assert main([*ask, "--fields", "row, score,is_phrase_match"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(list(hit) == ["row", "score", "is_phrase_match"] for hit in found)
    assert (found[0]["row"], found[0]["is_phrase_match"]) == (0, True)
    for wrong in ("row,smell", "", ","):
        assert main([*ask, "--fields", wrong]) == 2
    assert main([*ask[:-1], "--fields", "row"]) == 2


def test_what_looks_like_a_file_and_is_not_there_is_refused(
    embedded: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["typo.jpg"], ["a frog", "-", "x/typo.jpg"]):
        assert main(["search", str(embedded), *words]) == 2
        assert "typo.jpg' looks like a path, and no such file is there" in capsys.readouterr().err
        assert main(["search", str(embedded), *words, "--text", "--json"]) == 0
    assert main(["search", str(embedded), "and/or", "--json"]) == 0
    assert main(["ask", "typo.jpg"]) == 2
    assert main(["embed", "typo.jpg", "--json", "-m", str(tiny_run)]) == 4
    assert main(["classify", "typo.jpg", "--labels", "a,b", "-m", str(tiny_run)]) == 4
    assert main(["caption", "typo.jpg"]) == 4


def test_a_str_that_names_a_file_is_no_item(
    tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a red circle").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"'a red circle' is a file; give a Path"):
        tiny_model.embed(["a frog", "a red circle"])
    vectors = tiny_model.embed([Text("a red circle"), Text("a blue circle")]).vectors
    np.testing.assert_allclose(vectors[1], tiny_model.embed(["a blue circle"]).vectors[0], atol=1e-5)
