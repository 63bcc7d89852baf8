"""`data index` and `search --ann` by the real command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from sensorium.cli import main
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table


@pytest.fixture
def vectors(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((523, 13)).astype(np.float32)
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    table = Table.create(tmp_path / "t.lance")
    table.add(Sample(f"{n}", image=b"%d" % n, texts=[Caption("en", f"t{n}")]) for n in range(523))
    table.set_vectors("image", "f", np.arange(523), units)
    np.save(tmp_path / "q.npy", units[7])
    return units


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, errors = capsys.readouterr()
    return code, out, errors


def test_an_index_is_asked_for_built_used_and_outdated(
    vectors: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.lance"
    ask = ("search", table, "--vector", tmp_path / "q.npy", "--ann", "--json", "-k", 3)
    code, _, errors = run(capsys, *ask)
    assert code == 4
    assert f"run: sensorium data index {table}" in errors
    code, out, _ = run(capsys, "data", "index", table, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["model"], found["kind"], found["rows"], found["vectors"]) == ("f", "ivf-pq", 523, 523)
    assert found["queries"] == "100 neighbours"
    assert found["recall@10"] > 0.8
    code, out, _ = run(capsys, *ask)
    scores = {str(row): score for row, score in enumerate((vectors @ vectors[7]).tolist())}
    hits = {hit["uri"]: hit["score"] for hit in json.loads(out)}
    assert len(hits) == 3
    assert hits == pytest.approx({uri: scores[uri] for uri in hits}, abs=1e-5)
    assert len(json.loads(run(capsys, *ask, "--where", "row < 2")[1])) == 2
    assert run(capsys, *ask, "--field", "image")[0] == 2
    Table.open(table).set_vectors("image", "f", [3], vectors[:1])
    code, _, errors = run(capsys, *ask)
    assert code == 1
    assert "stale (image 523 then, 524 now written)" in errors
    code, out, errors = run(capsys, "data", "index", table, "--kind", "ivf-hnsw-sq")
    assert code == 0
    assert "recall@10" in out
    assert "exact search is as fast" in errors
    assert run(capsys, *ask)[0] == 0


def test_small_tables_are_told_to_search_exactly(
    tiny_table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "data", "index", tiny_table.path)[0] == 4
    tiny_table.set_vectors("image", "f", [0], np.ones((1, 3), np.float32))
    code, _, errors = run(capsys, "data", "index", tiny_table.path)
    assert code == 1
    assert "exact search is faster here" in errors
