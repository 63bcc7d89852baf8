"""Search finds the rows of the best vectors, whatever the query is made of."""

from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import Embeddings
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table


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


@pytest.fixture
def captioned(tmp_path: Path) -> Table:
    """Rows whose pictures say nothing of their captions."""
    told = [
        "A green frog sits on a log.", "a red car", "The old man reads a very long book", "Ein grüner Frosch",
        "frog", "a red carpet", "green frog sits", None,
    ]  # fmt: skip
    table = Table.create(tmp_path / "t")
    table.add(
        Sample(f"u{n}", image=bytes([n]), texts=[Caption("en", text)] if text else [Caption("", "")])
        for n, text in enumerate(told)
    )
    random = np.random.default_rng(3)
    table.set_vectors("image", "letters", np.arange(8), unit(random.standard_normal((8, 7))))
    return table


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("a green frog sits on a log", [0]),
        ("A  GREEN frog\nsits on a log!", [0]),
        ("green frog sits", [6, 0]),  # a whole caption before a part of one
        ("man reads a very long", [2]),
        ("ein GRÜNER frosch", [3]),
        ("frog", [4]),
        ("a red car", [1]),  # not: a red carpet
        ("sits on a", [0]),
        ("red car", []),  # two words are left to the vectors
        ("reads long book", []),
        ("?", []),
        ("", []),
    ],
)
def test_rows_that_a_text_quotes_come_first(captioned: Table, query: str, rows: list[int]) -> None:
    hits = captioned.search(query, model=MODEL, k=8)
    assert [hit.row for hit in hits if hit.is_phrase_match] == rows
    assert [hit.row for hit in hits[: len(rows)]] == rows
    assert sorted(hit.row for hit in hits) == list(range(8))
    by_vector = captioned.search(MODEL.embed([query]).vectors[0], model=MODEL, k=8)
    assert [hit.row for hit in hits[len(rows) :]] == [hit.row for hit in by_vector if hit.row not in rows]
    scores = {hit.row: hit.score for hit in by_vector}
    assert {hit.row: hit.score for hit in hits} == pytest.approx(scores, abs=1e-6)


def test_quotes_are_filtered_cut_and_found_in_new_rows(captioned: Table) -> None:
    query = "green frog sits"
    assert [hit.row for hit in captioned.search(query, model=MODEL, k=1)] == [6]
    assert captioned.search(query, model=MODEL, where="row < 5")[0].row == 0
    assert not any(hit.is_phrase_match for hit in captioned.search(query, model=MODEL, fields=["image"]))
    assert [hit.row for hit in captioned.search(query, model=MODEL, min_score=1.0)[:2]] == [6, 0]
    captioned.add(
        [Sample("new", image=b"new", texts=[Caption("fr", "x"), Caption("en", "Green frog, sits")])]
    )
    assert captioned.search(query, model=MODEL)[0].row == 6  # the new row has no vector yet
    captioned.set_vectors("image", "letters", [8], MODEL.embed(["gg"]).vectors)
    assert {hit.row for hit in captioned.search(query, model=MODEL)[:2]} == {6, 8}


def test_a_search_with_relevance_asks_its_background_once(searched: Table) -> None:
    asked: list[object] = []

    class Counting(Letters):
        def embed(self, items):
            asked.extend(items)
            return super().embed(items)

    first = searched.search("abba", model=Counting(), min_score=0.0, fields=["image"])
    read = searched._beside.get
    searched._beside.get = None  # no vector is read again
    assert searched.search("abba", model=Counting(), min_score=0.0, fields=["image"]) == first
    searched._beside.get = read
    assert asked == ["abba", "abba"]
