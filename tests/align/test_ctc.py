"""Forced alignment against every path, against torch's CTC loss, and on emissions whose words are known."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.align.ctc import WILDCARD_PENALTY, ctc_align, spell
from sensorium.core.errors import UsageError


def random_log_probs(num_frames: int, num_labels: int, number: int) -> np.ndarray:
    logits = np.random.default_rng(number).standard_normal((num_frames, num_labels)) * 2
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def collapse(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != 0]


def best_of_all(log_probs: np.ndarray, labels: list[int]) -> float:
    paths = itertools.product(range(log_probs.shape[1]), repeat=len(log_probs))
    scores = (
        sum(float(log_probs[time, label]) for time, label in enumerate(path))
        for path in paths
        if collapse(path) == labels
    )
    return max(scores, default=-math.inf)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 10**6))
def test_equals_the_best_of_all_paths(num_frames: int, labels: list[int], number: int) -> None:
    log_probs = random_log_probs(num_frames, 4, number)
    wanted = best_of_all(log_probs, labels)
    if math.isinf(wanted):
        with pytest.raises(UsageError, match="frames"):
            ctc_align(log_probs, [[label] for label in labels])
        return
    found = ctc_align(log_probs, [[label] for label in labels])
    assert found.score == pytest.approx(wanted, abs=1e-5)
    spoken = [int(place) for place, _ in itertools.groupby(found.labels) if place >= 0]
    assert spoken == list(range(len(labels)))


@pytest.mark.parametrize("number", range(5))
def test_one_path_is_no_likelier_than_all_and_no_less_than_their_mean(number: int) -> None:
    log_probs = random_log_probs(29, 11, number)
    labels = [3, 3, 7, 1, 10]
    all_paths = -torch.nn.functional.ctc_loss(
        torch.from_numpy(log_probs), torch.tensor(labels), torch.tensor(29), torch.tensor(5), reduction="sum"
    ).item()
    score = ctc_align(log_probs, [labels]).score
    assert score < all_paths
    # five labels, two of them equal: 29 frames on 11 states, so fewer than C(40, 10) paths
    assert score > all_paths - math.log(math.comb(40, 10))


def test_where_only_one_path_exists_it_equals_torch() -> None:
    log_probs = random_log_probs(4, 5, 8)
    wanted = -torch.nn.functional.ctc_loss(
        torch.from_numpy(log_probs),
        torch.tensor([2, 2, 3]),
        torch.tensor(4),
        torch.tensor(3),
        reduction="sum",
    ).item()
    assert ctc_align(log_probs, [[2, 2], [3]]).score == pytest.approx(wanted, abs=1e-5)


def spoken(labels: str, alphabet: str = "_abcdx") -> np.ndarray:
    """Emissions of a recogniser that is nearly sure of one label in each frame."""
    probs = np.full((len(labels), len(alphabet)), 0.01)
    probs[np.arange(len(labels)), [alphabet.index(label) for label in labels]] = 1
    return np.log(probs / probs.sum(axis=1, keepdims=True))


def test_words_lie_where_they_are_spoken_and_are_sure() -> None:
    found = ctc_align(spoken("__aab__cc_d__"), spell(["ab", "cd"], list("_abcdx")))
    assert [(word.start, word.stop) for word in found.words] == [(2, 5), (7, 11)]
    assert all(word.confidence > 0.9 for word in found.words)


def test_a_wildcard_takes_what_lies_between_and_no_more() -> None:
    words = spell(["ab", "42", "cd"], list("_abcdx"))
    assert words[1] == []
    found = ctc_align(spoken("__aab__xx_x__cc_d__"), words)
    assert [(word.start, word.stop) for word in found.words] == [(2, 5), (7, 11), (13, 17)]
    assert [word.is_wildcard for word in found.words] == [False, True, False]


def test_a_wildcard_beside_repeated_labels_and_alone() -> None:
    found = ctc_align(spoken("_aa_a_"), [[1], [], [1]])
    assert (found.words[0].start, found.words[0].stop) == (1, 2)
    alone = ctc_align(spoken("__xx__"), [[]])
    assert (alone.words[0].start, alone.words[0].stop) == (2, 4)
    assert alone.score == pytest.approx(6 * float(spoken("_").max()) - 2 * WILDCARD_PENALTY, abs=1e-5)


def test_words_that_were_not_spoken_are_unsure() -> None:
    emissions = spoken("__aab__xx_x__cc_d__")
    found = ctc_align(emissions, spell(["ab", "bad", "cd"], list("_abcdx")))
    assert found.words[1].confidence < 0.1 < 0.9 < min(found.words[0].confidence, found.words[2].confidence)


def test_a_separator_belongs_to_no_word() -> None:
    found = ctc_align(spoken("_ab||cd_", "_abcd|"), spell(["ab", "cd"], list("_abcd")), separator=5)
    assert [(word.start, word.stop) for word in found.words] == [(1, 3), (5, 7)]


def test_another_blank_and_permuted_labels_give_the_same() -> None:
    log_probs = random_log_probs(31, 7, 5)
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    words = [[1, 2], [5], [], [3, 3]]
    place = {int(label): number for number, label in enumerate(order)}
    permuted = ctc_align(
        log_probs[:, order], [[place[one] for one in word] for word in words], blank=place[0]
    )
    assert permuted.words == ctc_align(log_probs, words).words


def test_spelling_folds_case_and_leaves_out_punctuation() -> None:
    assert spell(["Ab!", "a1", "", "—"], ["_", "a", "B"]) == [[1, 2], [], [], []]


@pytest.mark.parametrize(
    ("log_probs", "words", "said"),
    [
        (np.zeros((3, 4)) - 2, [], "no words"),
        (np.zeros((3, 4)) - 2, [[4]], "label 4"),
        (np.zeros((3, 4)) - 2, [[0]], "label 0"),
        (np.zeros((3, 4)) - 2, [[1, 1, 1]], "need 5 frames, got 3"),
        (np.zeros((3, 4)) + 2, [[1]], "log_softmax"),
        (np.full((3, 4), np.nan), [[1]], "not numbers"),
        (np.full((3, 4), -np.inf), [[1]], "nothing is possible"),
        (np.zeros((0, 4)), [[1]], "expected"),
    ],
)
def test_mistakes_are_told(log_probs: np.ndarray, words: list[list[int]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ctc_align(log_probs, words)
