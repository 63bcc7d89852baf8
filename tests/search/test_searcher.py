"""A searcher: its hits, what it keeps in memory, and threads that share it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.data.table import table as table_module
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table
from sensorium.media import Text
from sensorium.search import Searcher
from sensorium.search.searcher import UnloadedModel
from word_model import THINGS, WordModel


class CountingTable:
    """A table that counts reads of vectors."""

    def __init__(self, table: Table) -> None:
        self._table, self.num_reads = table, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._table, name)

    def __len__(self) -> int:
        return len(self._table)

    def vectors(self, field: str, fingerprint: str) -> tuple[np.ndarray, np.ndarray]:
        self.num_reads += 1
        return self._table.vectors(field, fingerprint)


def test_hits_equal_sorted_cosines_and_phrase_matches_come_first(
    things: Table, word_model: WordModel
) -> None:
    searcher = Searcher(things, word_model)
    query = word_model.embed(["green frog"]).vectors[0]
    _, vectors = things.vectors("image", word_model.fingerprint)
    order = np.argsort(-(vectors @ query), kind="stable")
    by_vector = searcher.search(query, k=5)
    assert [hit.row for hit in by_vector] == order.tolist()
    assert not any(hit.is_phrase_match for hit in by_vector)
    np.testing.assert_allclose([hit.score for hit in by_vector], (vectors @ query)[order], atol=1e-6)
    whale = THINGS.index("blue whale")
    for text in ("Blue  whale!", Text("blue whale")):
        hits = searcher.search(text, k=2)
        assert (hits[0].row, hits[0].is_phrase_match, hits[0].texts["en"]) == (whale, True, "blue whale")
    assert not searcher.search("blue whale", k=1, fields=["image"])[0].is_phrase_match
    assert [hit.row for hit in searcher.search(query, where="row = 2")] == [2]


def test_vectors_are_read_once_and_again_after_a_write(things: Table, word_model: WordModel) -> None:
    counting = CountingTable(things)
    searcher = Searcher(counting, word_model)  # type: ignore[arg-type]
    for query in ("red", "green", "frog"):
        searcher.search(query, min_score=0.0)
        searcher.with_model(WordModel()).search(query)
    assert counting.num_reads == 1
    new = word_model.embed(["rare word"]).vectors
    things.set_vectors("image", word_model.fingerprint, [3], new)
    best = searcher.search(new[0], k=1)[0]
    assert (best.row, counting.num_reads) == (3, 2)
    assert best.score == pytest.approx(1, abs=1e-6)


def test_a_row_added_later_is_found_by_its_caption(things: Table, word_model: WordModel) -> None:
    searcher = Searcher(things, word_model)
    assert not searcher.search("a purple cow", k=1)[0].is_phrase_match
    things.add([Sample("new", texts=[Caption("en", "A purple cow.")])])
    things.set_vectors("text", word_model.fingerprint, [5], word_model.embed(["purple cow"]).vectors)
    assert searcher.search("a purple cow", k=1)[0].row == 5


@pytest.mark.parametrize("min_score", [None, 0.0])
def test_threads_that_share_a_searcher_get_the_hits_of_one_thread(
    things: Table, word_model: WordModel, min_score: float | None
) -> None:
    queries = [*THINGS, "red", "green apple - x", "a b c"] * 5
    expected = [Searcher(things, word_model).search(query, min_score=min_score) for query in queries]
    shared = Searcher(things, word_model)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda query: shared.search(query, min_score=min_score), queries))
    assert found == expected


def test_threads_with_other_models_of_one_fingerprint_keep_their_own(
    things: Table, word_model: WordModel
) -> None:
    """A model that cannot embed texts must not replace that of a search in another thread."""
    vector = word_model.embed(["red car"]).vectors[0]
    expected = things.search("red car", model=word_model), things.search(vector, model=word_model)

    def search(number: int) -> bool:
        if number % 2:
            return things.search(vector, model=UnloadedModel(word_model.fingerprint)) == expected[1]
        return things.search("red car", model=word_model) == expected[0]

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(search, range(100)))


def test_wrong_requests_are_refused(things: Table, word_model: WordModel) -> None:
    searcher = Searcher(things, word_model)
    with pytest.raises(UsageError, match="k=0"):
        searcher.search("red", k=0)
    with pytest.raises(UsageError, match=r"min_score=1\.5; expected a relevance between 0 and 1"):
        searcher.search("red", min_score=1.5)
    with pytest.raises(UsageError, match="fields or ann, not both"):
        searcher.search("red", ann=True, fields=["image"])
    with pytest.raises(NotFoundError, match="sensorium data index"):
        searcher.search("red", ann=True)
    with pytest.raises(NotFoundError, match="sensorium embed"):
        Searcher(things, UnloadedModel("another")).search(np.ones(37, np.float32))


def test_a_table_without_a_registered_searcher_names_the_remedy(
    things: Table, word_model: WordModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "SEARCHERS", {})
    with pytest.raises(NotFoundError, match=r"reinstall the package, or use sensorium\.search\.Searcher"):
        things.search("red", model=word_model)
