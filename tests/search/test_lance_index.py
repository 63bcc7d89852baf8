"""Lance's indexes find nearly what the exact index finds."""

from pathlib import Path

import numpy as np
import pytest

from sensorium.search import approximate
from sensorium.search.exact import ExactIndex


def units(num: int, seed: int, width: int = 32) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((num, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["IVF_PQ", "IVF_HNSW_SQ"])
def test_recall_against_exact(kind: approximate.Kind, tmp_path: Path) -> None:
    vectors, queries = units(2003, 1), units(101, 2)
    dataset = approximate.build_index(
        approximate.write_dataset(tmp_path / "v.lance", vectors, np.arange(2003) * 7), kind=kind
    )
    scores, rows = approximate.search_index(dataset, queries, 10)
    exact_scores, exact = ExactIndex(vectors).search(queries, 10)
    assert approximate.recall(rows, exact * 7) > 0.9
    assert np.all(scores <= exact_scores + 1e-5)


def test_without_an_index_it_is_exact(tmp_path: Path) -> None:
    vectors, queries = units(307, 1), units(3, 2)
    dataset = approximate.write_dataset(tmp_path / "v.lance", vectors, np.arange(307))
    scores, rows = approximate.search_index(dataset, queries, 5)
    exact_scores, exact = ExactIndex(vectors).search(queries, 5)
    assert approximate.recall(rows, exact) == 1
    np.testing.assert_allclose(scores, exact_scores, atol=1e-5)
    dataset = approximate.write_dataset(tmp_path / "v.lance", vectors[:3], np.arange(3))
    scores, few = approximate.search_index(dataset, queries, 5)
    assert sorted(few[0].tolist()) == [-1, -1, 0, 1, 2]
    assert np.isneginf(scores[0, 3:]).all()
