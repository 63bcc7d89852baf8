"""An approximate index finds what the exact search finds, and says when it cannot be trusted."""

from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.core.types import Embeddings
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table
from sensorium.search import approximate
from sensorium.search.approximate import ApproximateIndex, build_approximate, measure_recall, open_approximate
from sensorium.search.exact import gather, inner_products

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


def check(index: ApproximateIndex, table: Table, queries: np.ndarray, k: int, allowed=None) -> None:
    """Scores are those of the exact search, rank by rank at most as high, and most of its rows are found.

    With all candidates scored, product quantisation hides nothing; a graph may still miss one.
    """
    exact = gather(table, "f", None).index
    exact_scores, exact_positions = exact.search(queries, k, allowed)
    scores, positions = index.search(queries, k, allowed)
    assert scores.shape == exact_scores.shape
    for query, found, places in zip(queries, scores, positions, strict=True):
        np.testing.assert_array_equal(found, inner_products(exact.vectors[places], query).astype(np.float32))
    assert len(queries) == 0 or np.all(np.diff(scores, axis=1) <= 0)
    assert np.all(scores <= exact_scores)
    assert approximate.recall(positions, exact_positions) >= 0.9 or scores.size == 0


def test_with_all_probes_it_is_nearly_the_exact_search(indexed: Table) -> None:
    for k in (1, 10):
        check(thorough(indexed), indexed, units(101, 3), k)
    for k in (709, 800):
        check(thorough(indexed), indexed, units(5, 3), k)


def test_only_allowed_vectors_are_found_and_all_of_them(
    indexed: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensorium.search.approximate._READ_AT_MOST", 100)
    queries, random = units(31, 4), np.random.default_rng(5)
    for share in (0.0, 0.02, 0.3, 0.8):
        allowed = random.random(709) < share
        check(thorough(indexed), indexed, queries, 11, allowed)
        assert allowed[thorough(indexed).search(queries, 11, allowed)[1]].all()


def test_a_table_searches_with_it(indexed: Table) -> None:
    for where in (None, "row >= 300", "row < 5"):
        num_found = num_right = 0
        for query in units(31, 6):
            exact = indexed.search(query, model=MODEL, where=where)
            hits = indexed.search(query, model=MODEL, where=where, ann=True)
            assert len(hits) == len(exact)
            assert all(hit.score <= best.score for hit, best in zip(hits, exact, strict=True))
            assert where != "row >= 300" or min(hit.row for hit in hits) >= 300
            num_found += len(hits)
            num_right += len({hit.row for hit in hits} & {hit.row for hit in exact})
        assert num_right >= 0.7 * num_found
    with pytest.raises(UsageError, match="not both"):
        indexed.search(units(1, 6)[0], model=MODEL, fields=["image"], ann=True)


def test_recall_is_measured_with_captions_that_are_not_searched(indexed: Table) -> None:
    recall = measure_recall(indexed, "f", num_queries=97)
    assert (recall.queries, recall.num_queries) == ("captions", 97)
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
    pool = open_approximate(table, "f")
    assert 521 in pool.rows
    assert len(pool.index) == len(pool.rows) == 522
    assert len(table.search(new[0], model=MODEL, ann=True)) == 10
    assert [path.name for path in table.path.glob("ann-*")] == ["ann-f-252f10c8.lance"]
    assert table.fields_embedded() == {"f": ["image", "text"]}


def test_too_few_vectors_are_refused(tmp_path: Path) -> None:
    table = fill(tmp_path / "t.lance", 17)
    with pytest.raises(UsageError, match="index kind 'FLAT' is unknown; use one of IVF_PQ, IVF_HNSW_SQ"):
        build_approximate(table, "f", "FLAT")
    with pytest.raises(TableError, match=r"17 vectors are too few.*exact search is faster"):
        build_approximate(table, "f")


def test_neighbours_are_asked_where_there_are_no_captions(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t.lance")
    table.add(Sample(f"{n}", image=b"%d" % n) for n in range(523))
    table.set_vectors("image", "f", np.arange(523), units(523, 1))
    build_approximate(table, "f")
    recall = measure_recall(table, "f", num_queries=97)
    assert recall.queries == "neighbours"
    assert recall.at_10 > 0.8


def test_partitions_grow_with_the_root() -> None:
    assert [approximate.num_partitions(num) for num in (1, 709, 10_000, 1_000_000)] == [1, 2, 39, 500]


def test_relevance_through_the_index_loads_no_vectors_and_asks_its_background_once(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t.lance")
    table.add(Sample(f"{n}", image=b"%d" % n) for n in range(709))
    table.set_vectors("image", "f", np.arange(709), units(709, 1))
    build_approximate(table, "f")
    asked = []

    class Counting(Nothing):
        def embed(self, items):
            asked.append(len(items))
            return super().embed(items)

    fresh = Table.open(table.path)
    fresh.pool = fresh.vectors = None  # what reads all vectors
    query = units(1, 3)[0]
    first = fresh.search(query, model=Counting(), min_score=0.0, ann=True)
    assert asked == [27]  # the plain phrases, as the table has no captions
    assert fresh.search(query, model=Counting(), min_score=0.0, ann=True) == first
    assert len(fresh.search(units(1, 4)[0], model=Counting(), min_score=0.0, ann=True)) == 10
    assert asked == [27]
    exact = {hit.row: hit for hit in table.search(query, model=MODEL, k=20, min_score=0.0)}
    near = [(hit.relevance, exact[hit.row].relevance) for hit in first if hit.row in exact]
    assert len(near) >= 5
    assert np.abs(np.subtract(*np.transpose(near))).max() < 0.2


def test_captions_are_the_background_without_reading_all_of_them(indexed: Table) -> None:
    fresh = Table.open(indexed.path)
    fresh.pool = fresh.vectors = None
    hits = fresh.search(units(1, 3)[0], model=MODEL, min_score=0.0, ann=True)
    assert len(hits) == 10
    assert all(0 <= hit.relevance <= 1 for hit in hits)
