"""Relevance means the same for every query, collection and offset."""

import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.data.calibration import Calibration
from sensorium.data.index import ExactIndex

WIDTH = 31


def units(num: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Directions that share a common part, as those of one modality do."""
    stream = np.random.default_rng(seed)
    common = np.random.default_rng(0).standard_normal(WIDTH)
    values = stream.standard_normal((num, WIDTH)) + shift * common
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def best_relevance(calibration: Calibration, vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    scores, positions = ExactIndex(vectors).search(queries, 50)
    return calibration.relevance(scores, positions, queries).max(axis=1)


@pytest.mark.parametrize("num", [1, 7, 211, 3001])
def test_unrelated_queries_pass_as_rarely_as_promised(num: int) -> None:
    vectors = units(num, 1, 0.7)
    calibration = Calibration.fit(vectors, units(400, 2, 0.4))
    found = best_relevance(calibration, vectors, units(1000, 3, 0.4))
    for level in (0.5, 0.9):
        assert np.mean(found >= level) <= 1 - level + 0.06
    assert np.mean(found >= 0.5) >= 0.35


def test_related_queries_pass_and_the_others_do_not() -> None:
    vectors = units(503, 1, 0.7)
    calibration = Calibration.fit(vectors, units(300, 2, 0.4))
    near = vectors[:100] + 0.5 * units(100, 5)
    near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    assert np.mean(best_relevance(calibration, vectors, near) > 0.95) > 0.95


def test_an_item_near_to_everything_is_not_relevant_to_everything() -> None:
    vectors = units(401, 1)
    common = units(1, 0, 1e6)[0]
    vectors[17] = common
    queries = units(300, 2, 1.0)
    _, positions = ExactIndex(vectors).search(queries, 1)
    assert np.mean(positions == 17) > 0.5  # a flat cutoff would return it always
    calibration = Calibration.fit(vectors, units(300, 3, 1.0))
    assert np.mean(best_relevance(calibration, vectors, queries) >= 0.9) < 0.17


def test_relevance_grows_with_the_score_and_stays_within_bounds() -> None:
    vectors = units(101, 1)
    calibration = Calibration.fit(vectors, units(50, 2))
    scores = np.linspace(-1, 1, 41, dtype=np.float32)[None]
    found = calibration.relevance(scores, np.full((1, 41), 5), units(1, 3))[0]
    assert found.dtype == np.float32
    assert np.all(np.diff(found) >= 0)
    assert found[0] == 0
    assert found[-1] == pytest.approx(50 / 51)


def test_background_must_be_large_enough() -> None:
    with pytest.raises(UsageError, match="19 background queries"):
        Calibration.fit(units(5, 1), units(19, 2))
