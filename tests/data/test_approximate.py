"""An approximate index finds what the exact search finds, and says when it cannot be trusted."""

from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.core.types import Embeddings
from sensorium.data import ann
from sensorium.data.approximate import ApproximateIndex, build_approximate, measure_recall, open_approximate
from sensorium.data.sample import Caption, Sample
from sensorium.data.table import Table

WIDTH = 23


def units(num: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((num, WIDTH))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


class Nothing:
    fingerprint = "f"

    def embed(self, items):
        return Embeddings(units(len(items), 9))


MODEL = Nothing()


def fill(path: Path, num: int) -> Table:
    """Rows with image vectors, every seventh with a text vector too, and one with text alone."""
    table = Table.create(path)
    table.add(
        Sample(f"u{n}", image=b"%d" % n if n else None, texts=[Caption("en", f"t{n}")]) for n in range(num)
    )
    table.set_vectors("image", "f", np.arange(1, num), units(num - 1, 1))
    table.set_vectors("text", "f", np.arange(0, num, 7), units(len(range(0, num, 7)), 2))
    return table


@pytest.fixture(scope="module", params=["IVF_PQ", "IVF_HNSW_SQ"])
def indexed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Table:
    table = fill(tmp_path_factory.mktemp("t") / "t.lance", 709)
    built = build_approximate(table, "f", request.param)
    assert (built.kind, built.vectors) == (request.param, 709)
    assert built.num_bytes > 709 * WIDTH * 4
    return table


def thorough(table: Table) -> ApproximateIndex:
    """All partitions, all candidates scored with their true vectors."""
    return ApproximateIndex(open_approximate(table, "f").index._dataset, num_probes=709, refine=709)


def test_with_all_probes_it_is_the_exact_search(indexed: Table) -> None:
    queries = units(5, 3)
    for k in (1, 10, 709, 800):
        exact_scores, exact = indexed.pool("f").index.search(queries, k)
        scores, positions = thorough(indexed).search(queries, k)
        np.testing.assert_array_equal(positions, exact)
        np.testing.assert_array_equal(scores, exact_scores)


def test_only_allowed_vectors_are_found_and_all_of_them(
    indexed: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensorium.data.approximate._READ_AT_MOST", 100)
    queries, random = units(3, 4), np.random.default_rng(5)
    for share in (0.0, 0.02, 0.3, 0.8):
        allowed = random.random(709) < share
        exact_scores, exact = indexed.pool("f").index.search(queries, 11, allowed)
        scores, positions = thorough(indexed).search(queries, 11, allowed)
        np.testing.assert_array_equal(positions, exact)
        np.testing.assert_array_equal(scores, exact_scores)


def test_a_table_searches_with_it(indexed: Table) -> None:
    for query in units(3, 6):
        for where in (None, "row >= 300", "row < 5"):
            exact = indexed.search(query, model=MODEL, where=where)
            hits = indexed.search(query, model=MODEL, where=where, ann=True)
            assert len(hits) == len(exact)
            assert len({hit.row for hit in hits} & {hit.row for hit in exact}) >= 0.7 * len(exact)
            assert hits[0] == exact[0]
            assert where != "row >= 300" or min(hit.row for hit in hits) >= 300
    with pytest.raises(UsageError, match="not both"):
        indexed.search(units(1, 6)[0], model=MODEL, fields=["image"], ann=True)


def test_recall_is_measured_with_captions_that_are_not_searched(indexed: Table) -> None:
    recall = measure_recall(indexed, "f", num_queries=13)
    assert (recall.queries, recall.num_queries) == ("captions", 13)
    assert recall.at_10 > 0.8


def test_an_index_is_stale_once_vectors_are_written(tmp_path: Path) -> None:
    table = fill(tmp_path / "t.lance", 521)
    with pytest.raises(NotFoundError, match="sensorium data index"):
        table.search(units(1, 7)[0], model=MODEL, ann=True)
    build_approximate(table, "f")
    table.optimize()
    table.add([Sample("new", image=b"new")])
    table.refresh()
    assert len(table.search(units(1, 7)[0], model=MODEL, ann=True)) == 10
    new = units(1, 8)
    table.set_vectors("image", "f", [521], new)
    with pytest.raises(TableError, match=r"stale.*sensorium data index"):
        table.search(new[0], model=MODEL, ann=True)
    build_approximate(table, "f")
    assert table.search(new[0], model=MODEL, k=1, ann=True)[0].row == 521
    assert [path.name for path in table.path.glob("ann-*")] == ["ann-f-252f10c8.lance"]
    assert table.fields_embedded() == {"f": ["image", "text"]}


def test_too_few_vectors_are_refused(tmp_path: Path) -> None:
    table = fill(tmp_path / "t.lance", 17)
    with pytest.raises(TableError, match=r"17 vectors are too few.*exact search is faster"):
        build_approximate(table, "f")


def test_neighbours_are_asked_where_there_are_no_captions(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t.lance")
    table.add(Sample(f"{n}", image=b"%d" % n) for n in range(523))
    table.set_vectors("image", "f", np.arange(523), units(523, 1))
    build_approximate(table, "f")
    recall = measure_recall(table, "f", num_queries=7)
    assert recall.queries == "neighbours"
    assert recall.at_10 > 0.8


def test_partitions_grow_with_the_root() -> None:
    assert [ann.num_partitions(num) for num in (1, 709, 10_000, 1_000_000)] == [1, 2, 39, 500]
