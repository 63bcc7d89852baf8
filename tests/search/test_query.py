from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import Embedder
from sensorium.data.table.table import Table
from sensorium.search.query import Term, describe, find_row, parse_terms, query_vector, read_vector
from word_model import THINGS, WordModel


def vector_of(words: list[str], model: Embedder | None, table: Table) -> np.ndarray:
    return query_vector(parse_terms(words), model, table, field="image", fingerprint="words-0001")


def test_lone_signs_are_operators_and_words_between_belong_together() -> None:
    terms = parse_terms(["a", "red", "apple", "-", "red", "+", "green"])
    assert [(term.weight, term.item) for term in terms] == [(1, "a red apple"), (-1, "red"), (1, "green")]


def test_a_sign_inside_a_word_stays_text() -> None:
    assert [term.item for term in parse_terms(["C++"])] == ["C++"]
    assert [term.item for term in parse_terms(["black - white"])] == ["black - white"]


def test_a_leading_minus_is_a_sign() -> None:
    assert [(term.weight, term.item) for term in parse_terms(["-", "rain"])] == [(-1, "rain")]


@pytest.mark.parametrize("words", [[], [""], ["+"], ["a", "+"], ["a", "+", "-", "b"]])
def test_an_operator_without_operand_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="beside each"):
        parse_terms(words)


def test_an_existing_file_is_a_file_unless_text_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "green_frog.png"
    file.write_bytes(b"x")
    assert parse_terms([str(file)])[0].item == file
    assert parse_terms([str(file)], is_text=True)[0].item == str(file)
    with pytest.raises(UsageError, match=r"is a folder; give the path of a file, or for words add --text"):
        parse_terms([str(tmp_path)])
    assert parse_terms([str(tmp_path)], is_text=True)[0].item == str(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["typo.jpg"], ["a frog", "-", "typo.JPG"], ["my", "holiday.png"], ["sounds/croak.ogg", "+", "x"],
        ["./typo"], ["../typo"], ["/no/such/file"], ["~/typo"], ["a/b/c"], ["here/typo"], ["C:\\a.b"],
        ["https://example.org/frog"], ["caf\udce9.png"],
    ],
)  # fmt: skip
def test_what_looks_like_a_path_and_is_not_there_is_no_text(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(UsageError, match=r"give (the path of )?a file, or for words add --text"):
        parse_terms(words)
    assert parse_terms(words, is_text=True)


@pytest.mark.parametrize(
    "text",
    [
        "and/or", "24/7", "24/12/2025", "a black/white photo", "AC/DC live", "1/2 cup of sugar", "he/she",
        "a/b testing in 2 steps", "What is a .png?", "version 1.0", "node.js", "U.S.", "on / off", "/", "...",
        "see https://example.org/frog there", "what does frog.jpg show?",
    ],
)  # fmt: skip
def test_texts_with_slashes_and_dots_are_texts(text: str) -> None:
    assert [term.item for term in parse_terms([text])] == [text]


def test_a_str_that_names_a_file_is_refused_in_python(
    things: Table, word_model: WordModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frog").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"'frog' is a file; give a Path .* or Text\('frog'\)"):
        things.search("frog", model=word_model)
    assert vector_of(["green frog"], word_model, things).shape == (37,)


def test_a_very_long_text_is_not_looked_up_as_a_path() -> None:
    assert parse_terms(["x" * 10_000])[0].item == "x" * 10_000


def test_arithmetic_moves_from_one_thing_to_another(things: Table, word_model: WordModel) -> None:
    vector = vector_of(["red", "apple", "-", "red", "+", "green"], word_model, things)
    _, vectors = things.vectors("image", word_model.fingerprint)
    assert THINGS[int(np.argmax(vectors @ vector))] == "green apple"


def test_order_of_terms_does_not_matter(things: Table, word_model: WordModel) -> None:
    one = vector_of(["red", "+", "frog", "-", "car"], word_model, things)
    other = vector_of(["-", "car", "+", "frog", "+", "red"], word_model, things)
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-6)


def test_terms_that_cancel_out_are_refused(things: Table, word_model: WordModel) -> None:
    with pytest.raises(UsageError, match="expected a direction"):
        vector_of(["red", "-", "red"], word_model, things)


def test_rows_and_vectors_need_no_model(things: Table, word_model: WordModel) -> None:
    stored = things.vectors("image", word_model.fingerprint)[1][3]
    terms = [Term(3)]
    found = query_vector(terms, None, things, field="text", fingerprint=word_model.fingerprint)
    np.testing.assert_allclose(found, stored, atol=1e-6)
    with pytest.raises(UsageError, match="--model"):
        vector_of(["red"], None, things)


def test_a_vector_of_another_width_is_refused(things: Table, word_model: WordModel) -> None:
    terms = [Term("red"), Term(np.ones(5, np.float32))]
    with pytest.raises(UsageError, match="has 5 numbers, the others 37"):
        query_vector(terms, word_model, things, field="image", fingerprint=word_model.fingerprint)


def test_rows_are_found_by_number_and_by_the_beginning_of_an_id(things: Table) -> None:
    assert find_row(things, "2") == 2
    assert find_row(things, things.ids[4]) == 4
    assert find_row(things, things.ids[4][:12]) == 4
    with pytest.raises(NotFoundError, match="no row '99'"):
        find_row(things, "99")


def test_a_vector_file_is_read_or_refused_with_its_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(7, dtype=np.float64)[None])
    np.testing.assert_array_equal(read_vector(tmp_path / "one.npy"), np.arange(7, dtype=np.float32))
    np.save(tmp_path / "two.npy", np.zeros((2, 7)))
    with pytest.raises(UsageError, match=r"\(2, 7\)"):
        read_vector(tmp_path / "two.npy")
    (tmp_path / "bad.npy").write_bytes(b"not numpy")
    with pytest.raises(UsageError, match=r"not a \.npy file"):
        read_vector(tmp_path / "bad.npy")
    with pytest.raises(NotFoundError):
        read_vector(tmp_path / "none.npy")


def test_a_query_is_described_with_its_signs() -> None:
    terms = [Term("a frog"), Term("green", -1.0), Term(4), Term(Path("b/leaf.png"), -1.0)]
    assert describe(terms) == "a frog - green + row 4 - leaf.png"
    assert describe([Term("rain", -1.0)]) == "- rain"


def test_a_row_is_asked_for_by_its_own_vectors_alone(things: Table, word_model: WordModel) -> None:
    things.vectors = None
    terms = [Term(3)]
    query_vector(terms, None, things, field="image", fingerprint=word_model.fingerprint)
    things.set_vectors("text", word_model.fingerprint, [4, 1, 4], np.eye(37, dtype=np.float32)[:3])
    assert things.row_vectors("text", word_model.fingerprint, 4).tolist() == np.eye(37)[[0, 2]].tolist()
    assert things.row_vectors("text", word_model.fingerprint, 0).shape == (0, 37)
    things.set_vectors("text", word_model.fingerprint, [4], np.eye(37, dtype=np.float32)[7:8])
    assert things.row_vectors("text", word_model.fingerprint, 4).tolist() == np.eye(37)[[7]].tolist()


def test_vectors_are_drawn_once_each_and_all_where_there_are_few(things: Table) -> None:
    rows = np.repeat(np.arange(5), 3)
    things.set_vectors("text", "f", rows, np.arange(1, 16, dtype=np.float32)[:, None])
    for num in (1, 4, 15, 100):
        drawn_rows, values = things.draw_vectors("text", "f", num, seed=2)
        assert len(set(values[:, 0].tolist())) == len(values) == min(num, 15)
        np.testing.assert_array_equal(rows[values[:, 0].astype(int) - 1], drawn_rows)
