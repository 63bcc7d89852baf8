"""Tables without rows, and rows without vectors: each command says in one line what to do."""

from pathlib import Path

import numpy as np
import pytest

from sensorium.cli import main
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    np.save(tmp_path / "v.npy", np.eye(1, 19, dtype=np.float32)[0])
    empty = Table.create(tmp_path / "empty.lance")
    bare = Table.create(tmp_path / "bare.lance")
    bare.add([Sample("a", texts=[Caption("en", "a frog")])])
    hollow = Table.create(tmp_path / "hollow.lance")
    hollow.add([Sample("a", texts=[Caption("en", "a frog")])])
    hollow.set_vectors("text", "f", [], np.zeros((0, 19), np.float32))
    return {"empty": empty.path, "bare": bare.path, "hollow": hollow.path}


@pytest.mark.parametrize(
    ("name", "step"),
    [("empty", "sensorium data prepare SRC -o"), ("bare", "sensorium embed"), ("hollow", "sensorium")],
)
@pytest.mark.parametrize(
    "words",
    [
        "search {table} frog", "search {table} frog -m {run}", "search {table} --vector {tmp}/v.npy",
        "search {table} frog --ann -m {run}", "search {table} --vector {tmp}/v.npy --ann",
        "search {table} frog --min-score 0.5 -m {run}", "data index {table}", "data index {table} -m {run}",
    ],
)  # fmt: skip
def test_a_search_without_vectors_names_the_next_step(
    tables: dict[str, Path],
    tiny_run: Path,
    tmp_path: Path,
    name: str,
    step: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(words.format(table=tables[name], run=tiny_run, tmp=tmp_path).split()) == 4
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert step in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search {table} --like 0", "it is empty"),
        ("embed {table} -m {run}", "has no rows; fill it: sensorium data prepare"),
        ("eval {run} --table {table}", "nothing to compare"),
        ("data dedup {table}", "nothing was written"),
        ("data filter {table} --min-px 3", "nothing was written"),
    ],
)
def test_an_empty_table_is_one_line(
    tables: dict[str, Path], tiny_run: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(words.format(table=tables["empty"], run=tiny_run).split())
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


def test_what_a_model_cannot_embed_is_said(
    tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table.create(tmp_path / "t.lance")
    table.add([Sample("a", video=b"film"), Sample("b", texts=[Caption("en", "a frog")])])
    assert main(["embed", str(table.path), "-m", str(tiny_run)]) == 0
    assert "video of 1 rows was not embedded: this model has no video encoder" in capsys.readouterr().err
    films = Table.create(tmp_path / "films.lance")
    films.add([Sample("a", video=b"film")])
    assert main(["embed", str(films.path), "-m", str(tiny_run)]) == 2
    assert "holds video; give another --model" in capsys.readouterr().err
