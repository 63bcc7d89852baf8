"""Search finds the rows of the best vectors, whatever the query is made of."""

from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import Embeddings
from sensorium.data.sample import Caption, Sample
from sensorium.data.table import Table


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


class Letters:
    """Embeds anything by the letters of its text or path."""

    fingerprint = "letters"

    def embed(self, items):
        counts = [[str(item).count(letter) + 0.1 for letter in "abcdefg"] for item in items]
        return Embeddings(unit(np.array(counts)))


MODEL = Letters()


@pytest.fixture
def searched(tmp_path: Path) -> Table:
    """17 rows with images, 6 with text alone; texts of all, two each."""
    table = Table.create(tmp_path / "t")
    table.add(
        Sample(
            f"u{n}", image=bytes([n]) if n < 17 else None, texts=[Caption("en", f"a{n}"), Caption("de", "b")]
        )
        for n in range(23)
    )
    random = np.random.default_rng(0)
    table.set_vectors("image", "letters", np.arange(17), unit(random.standard_normal((17, 7))))
    table.set_vectors("text", "letters", np.repeat(np.arange(23), 2), unit(random.standard_normal((46, 7))))
    return table


def test_hits_are_those_of_a_plain_product(searched):
    _, images = searched.vectors("image", "letters")
    _, texts = searched.vectors("text", "letters")
    query = unit(np.random.default_rng(1).standard_normal(7))
    expected = np.concatenate([images @ query, (texts @ query).reshape(23, 2).max(axis=1)[17:]])
    hits = searched.search(query * 3, model=MODEL, k=23)
    order = np.argsort(-expected)
    assert [hit.row for hit in hits] == order.tolist()
    np.testing.assert_allclose([hit.score for hit in hits], expected[order], rtol=1e-5, atol=1e-6)
    assert [hit.field for hit in hits] == ["image" if row < 17 else "text" for row in order]
    assert hits[0].id == searched.ids[order[0]]
    assert hits[0].uri == f"u{order[0]}"
    assert hits[0].texts == {"en": f"a{order[0]}", "de": "b"}
    assert [hit.row for hit in searched.search(query, model=MODEL, k=3)] == order[:3].tolist()


def test_named_fields_filters_and_scores_narrow_the_search(searched):
    query = unit(np.random.default_rng(2).standard_normal(7))
    assert {hit.field for hit in searched.search(query, model=MODEL, k=23, fields=["text"])} == {"text"}
    hits = searched.search(query, model=MODEL, k=23, where="row >= 15 AND row < 19")
    assert sorted(hit.row for hit in hits) == [15, 16, 17, 18]
    ranked = searched.search(query, model=MODEL, k=23, min_score=0.0)
    above = searched.search(query, model=MODEL, k=23, min_score=ranked[4].relevance)
    assert [hit.row for hit in ranked] == [hit.row for hit in searched.search(query, model=MODEL, k=23)]
    assert above == [hit for hit in ranked if hit.relevance >= ranked[4].relevance]
    assert searched.search(query, model=MODEL, where="row > 99") == []


def test_queries_of_all_kinds(searched):
    by_text = searched.search("abba", model=MODEL)
    by_path = searched.search(Path("abba"), model=MODEL)
    by_vector = searched.search(MODEL.embed(["abba"]).vectors[0], model=MODEL)
    assert by_text == by_path
    assert [hit.row for hit in by_vector] == [hit.row for hit in by_text]
    assert len(by_text) == 10


def test_new_vectors_are_found_at_once(searched):
    query = MODEL.embed(["gg"]).vectors
    searched.search("gg", model=MODEL)
    searched.set_vectors("image", "letters", [5], query)
    best = searched.search("gg", model=MODEL, k=1)[0]
    assert (best.row, round(best.score, 5)) == (5, 1.0)


def test_wrong_searches_say_what_to_do(searched, tmp_path):
    with pytest.raises(UsageError, match="k=0"):
        searched.search("a", model=MODEL, k=0)
    with pytest.raises(UsageError, match="3 wide"):
        searched.search(np.ones(3, np.float32), model=MODEL)
    with pytest.raises(UsageError, match="direction"):
        searched.search(np.zeros(7, np.float32), model=MODEL)
    with pytest.raises(UsageError, match="filter"):
        searched.search("a", model=MODEL, where="nope >")
    with pytest.raises(UsageError, match="no field 'picture'"):
        searched.search("a", model=MODEL, fields=["image", "picture"])
    with pytest.raises(NotFoundError, match="sensorium embed"):
        searched.search("a", model=MODEL, fields=["audio"])
    with pytest.raises(NotFoundError, match="sensorium embed"):
        Table.create(tmp_path / "empty").search("a", model=MODEL)
