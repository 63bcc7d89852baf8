"""Captions score as the COCO evaluation scores them; the measures keep their laws."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import UsageError
from sensorium.evals.captioning import (
    bleu,
    cider_d,
    evaluate_captions,
    nearest_captions,
    rouge_l,
    tokenise,
)

PUBLISHED = Path(__file__).parents[1] / "parity" / "data" / "captioning.json"
words = st.lists(st.sampled_from("a red blue frog key sits here".split()), min_size=1, max_size=9).map(
    " ".join
)


@pytest.fixture(scope="module")
def published() -> dict:
    return json.loads(PUBLISHED.read_text("utf-8"))


def test_scores_equal_the_published_tools(published: dict) -> None:
    captions, references = published["captions"], published["references"]
    assert len(captions) == 37
    assert np.std(published["cider"]) > 1  # the check can fail: scores differ from image to image
    np.testing.assert_allclose(cider_d(captions, references), published["cider"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(rouge_l(captions, references), published["rouge_l"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(bleu(captions, references), published["bleu"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("captions", "references", "wanted"),
    json.loads((PUBLISHED.parent / "short_captions.json").read_text("utf-8")),
)
def test_short_and_empty_captions_score_as_the_published_tools_score_them(
    captions: list[str], references: list[list[str]], wanted: dict[str, list[float]]
) -> None:
    np.testing.assert_allclose(bleu(captions, references), wanted["bleu"], rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(rouge_l(captions, references), wanted["rouge_l"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(cider_d(captions, references), wanted["cider"], rtol=0, atol=1e-12)


def test_another_order_of_words_is_told_apart(published: dict) -> None:
    backwards = [" ".join(reversed(one.split())) for one in published["captions"]]
    assert cider_d(backwards, published["references"]).mean() < 0.8 * np.mean(published["cider"])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=2, max_size=7))
def test_scores_keep_their_range_and_follow_their_image(pairs: list[tuple[str, list[str]]]) -> None:
    captions, references = [one for one, _ in pairs], [several for _, several in pairs]
    scores = cider_d(captions, references)
    assert (scores >= 0).all()
    assert (scores <= 10 + 1e-9).all()
    assert ((rouge_l(captions, references) >= 0) & (rouge_l(captions, references) <= 1 + 1e-12)).all()
    assert all(0 <= value <= 1 + 1e-12 for value in bleu(captions, references))
    turned = cider_d(captions[1:] + captions[:1], references[1:] + references[:1])
    np.testing.assert_allclose(turned, np.roll(scores, -1), atol=1e-9)
    twice = cider_d(captions * 2, references * 2)  # log(2N/2f) = log(N/f)
    np.testing.assert_allclose(twice[: len(scores)], twice[len(scores) :], atol=1e-9)


def test_a_caption_that_is_the_reference_scores_highest() -> None:
    references = [["a red frog sits here"], ["the blue key"], ["two green bells and an owl"]]
    same = evaluate_captions([one for several in references for one in several], references)
    assert same.cider.mean == pytest.approx((10 + 7.5 + 10) / 3)  # three words have no 4-gram
    assert same.rouge_l.mean == 1.0
    assert same.bleu == pytest.approx((1.0, 1.0, 1.0, 1.0))
    assert same.num_images == 3
    assert cider_d(["", "x", "a frog"], references).tolist()[:2] == [0.0, 0.0]
    assert bleu(["", "", ""], references) == (0.0, 0.0, 0.0, 0.0)


def test_what_is_in_every_reference_weighs_nothing() -> None:
    references = [["the frog"], ["the key"], ["the bell"]]
    assert cider_d(["the", "the", "the"], references).max() == 0.0


def test_nearest_captions_are_those_of_the_nearest_images() -> None:
    known = np.eye(5, dtype=np.float32)
    names = [f"caption {place}" for place in range(5)]
    assert nearest_captions(known[[3, 1]], known, names) == ["caption 3", "caption 1"]
    with pytest.raises(UsageError, match="5 vectors and 2 captions"):
        nearest_captions(known, known, names[:2])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="1 captions for 2 images"):
        cider_d(["a"], [["a"], ["b"]])
    with pytest.raises(UsageError, match="no reference"):
        evaluate_captions(["a"], [[]])


def test_tokens_are_words_without_punctuation() -> None:
    assert tokenise("Don’t: 2 FROGS, naïve-ish!") == ["don't", "2", "frogs", "naïve", "ish"]
