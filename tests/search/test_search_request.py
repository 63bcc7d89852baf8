import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table
from sensorium.search.embedding_log import check_languages, latest_model, log_model, read_log
from sensorium.search.gallery import write_gallery
from sensorium.search.query import Term, parse_terms
from sensorium.search.relevance import Background
from sensorium.search.searcher import SearchRequest, UnloadedModel, find
from word_model import THINGS, WordModel


def names(found: object) -> list[str]:
    return [hit.texts["en"] for hit in found]  # type: ignore[attr-defined]


def test_the_nearest_row_comes_first_and_scores_fall(things: Table, word_model: WordModel) -> None:
    found = find(things, SearchRequest(parse_terms(["green", "frog"]), k=3), word_model)
    assert names(found)[0] == "green frog"
    scores = [hit.score for hit in found]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(1, abs=1e-5)


def test_rows_like_a_row_leave_the_row_itself_out(things: Table, word_model: WordModel) -> None:
    found = find(things, SearchRequest([Term(0)], k=2), UnloadedModel(word_model.fingerprint))
    assert len(found) == 2
    assert "red apple" not in names(found)
    assert set(names(found)) == {"green apple", "red car"}


def test_a_filter_is_honoured(things: Table, word_model: WordModel) -> None:
    found = find(things, SearchRequest([Term("red apple")], where="row >= 3"), word_model)
    assert {hit.row for hit in found} == {3, 4}


def test_texts_without_a_model_are_refused_with_the_remedy(things: Table, word_model: WordModel) -> None:
    with pytest.raises(UsageError, match="--model RUN"):
        find(things, SearchRequest([Term("red")]), UnloadedModel(word_model.fingerprint))


def test_a_table_that_this_model_did_not_embed_is_refused(things: Table) -> None:
    with pytest.raises(NotFoundError, match="sensorium embed"):
        find(things, SearchRequest([Term(1)]), UnloadedModel("another"))


@pytest.mark.parametrize(("k", "min_score"), [(0, None), (5, 1.5), (5, -0.1)])
def test_requests_out_of_range_are_refused(
    things: Table, word_model: WordModel, k: int, min_score: float | None
) -> None:
    with pytest.raises(UsageError):
        find(things, SearchRequest([Term("red")], k=k, min_score=min_score), word_model)


def test_a_least_relevance_keeps_the_right_row_and_drops_the_rest(
    things: Table, word_model: WordModel
) -> None:
    things.set_vectors("text", word_model.fingerprint, np.arange(5), word_model.embed(list(THINGS)).vectors)
    found = find(things, SearchRequest([Term("blue whale")], min_score=0.9), word_model)
    assert names(found) == ["blue whale"]
    assert all(hit.relevance >= 0.9 for hit in found)


def test_wrong_answers_reach_a_relevance_as_often_as_it_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    table = Table.create(tmp_path / "many.lance")
    table.add(Sample(f"{row}", texts=[Caption("en", f"thing {row}")]) for row in range(199))
    vectors = rng.standard_normal((199, 37)).astype(np.float32)
    noisy = vectors + 0.5 * rng.standard_normal(vectors.shape).astype(np.float32)
    for name, values in (("image", vectors), ("text", noisy)):
        table.set_vectors(name, "f", np.arange(199), values / np.linalg.norm(values, axis=1, keepdims=True))
    request = SearchRequest([Term(vectors[7])], min_score=0.9, fields=["image"])
    assert [hit.row for hit in find(table, request, UnloadedModel("f"))] == [7]
    strangers = [SearchRequest([Term(rng.standard_normal(37))], 1, None, 0.9, ["image"]) for _ in range(60)]
    passed = sum(len(find(table, request, UnloadedModel("f"))) for request in strangers)
    assert passed <= 15


def test_relevance_does_not_change_when_scores_are_scaled_or_shifted() -> None:
    rng = np.random.default_rng(3)
    background = Background(np.sort(rng.normal(2, 0.4, 101)).astype(np.float32))
    scores = rng.normal(0.1, 0.05, 997).astype(np.float32)
    top = np.sort(scores)[-7:]
    plain = background.relevance(top, scores)
    np.testing.assert_allclose(
        background.relevance(3 * top + 0.2, 3 * scores + np.float32(0.2)), plain, atol=0.011
    )
    assert np.all(np.diff(plain) >= 0)


def test_the_log_names_the_latest_model_and_guards_languages(things: Table, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no vectors"):
        latest_model(things)
    log_model(things, "words-0001", tmp_path, ["en"])
    assert latest_model(things) == tmp_path
    check_languages(things, "words-0001", ["en"])
    check_languages(things, "another", ["de"])
    with pytest.raises(UsageError, match="in en, now asked: all languages"):
        check_languages(things, "words-0001", [])
    log_model(things, "words-0001", tmp_path / "gone", ["en"])
    with pytest.raises(NotFoundError, match="is gone"):
        latest_model(things)


def test_a_damaged_log_is_as_good_as_none(things: Table) -> None:
    for content in ("", "[]", '{"words-0001": 3}', '{"words-0001": {"path": "x"}}'):
        (things.path / "models.json").write_text(content)
        assert read_log(things) == {}


def test_a_sheet_and_a_page_show_what_was_found(things: Table, word_model: WordModel, tmp_path: Path) -> None:
    terms = parse_terms(["red", "<b>apple</b>"])
    found = find(things, SearchRequest([Term("red apple")], k=5), word_model)
    sheet, page = tmp_path / "out.png", tmp_path / "out.html"
    write_gallery(things, [(terms, found), ([Term(2)], [])], title="<Title>", sheet=sheet, page=page)
    with Image.open(sheet) as image:
        assert image.size[0] > 5 * 320
        colours = {pixel for _, pixel in image.getcolors(1 << 24)}
    assert (0, 90, 7) in colours
    text = page.read_text()
    assert "&lt;Title&gt;" in text
    assert "red &lt;b&gt;apple&lt;/b&gt;" in text
    assert text.count("<article") == 2 + 5
    assert "nothing found" in text
    assert "http" not in text.replace("http-equiv", "")
    with pytest.raises(UsageError, match=r"ends in \.png"):
        write_gallery(things, [(terms, [])], title="", sheet=tmp_path / "out.bmp")


def test_log_entries_are_plain_json(things: Table, tmp_path: Path) -> None:
    log_model(things, "words-0001", tmp_path, [])
    assert json.loads((things.path / "models.json").read_text()) == {
        "words-0001": {"path": str(tmp_path), "languages": []}
    }
