"""Exact search equals sorting all scores, in every number format."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import UsageError
from sensorium.search.exact import ExactIndex, inner_products

DTYPES = ["fp32", "bf16", "int8"]
WIDTH = 37


def units(num: int, seed: int, width: int = WIDTH) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((num, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def sorted_scores(
    vectors: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Score everything in float64, sort everything."""
    rows = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    scores = np.stack([inner_products(vectors[rows], query) for query in queries]).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), rows[order]


def assert_found(index: ExactIndex, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> None:
    scores, positions = index.search(queries, k, allowed)
    expected_scores, expected = sorted_scores(index.vectors, queries, k, allowed)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("num", "k"), [(1, 1), (7, 3), (7, 11), (5003, 1), (5003, 13), (20011, 5), (70001, 3)]
)
def test_equals_sorting_everything(dtype: str, num: int, k: int) -> None:
    assert_found(ExactIndex(units(num, 1), dtype), units(3, 2), k)


@pytest.mark.parametrize("num_threads", [2, 3])
def test_threads_share_the_rows(num_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: num_threads)
    assert_found(ExactIndex(units(20011, 1), "int8"), units(3, 2), 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 1.0])
def test_filters_as_mask_or_numbers(dtype: str, share: float) -> None:
    index, queries = ExactIndex(units(9001, 1), dtype), units(2, 2)
    mask = np.random.default_rng(3).random(9001) < share
    assert_found(index, queries, 7, mask)
    rows = np.random.default_rng(4).permutation(np.flatnonzero(mask))
    for one, other in zip(index.search(queries, 7, mask), index.search(queries, 7, rows), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_vectors_come_in_the_order_of_their_positions(dtype: str) -> None:
    vectors = units(5, 1)[np.random.default_rng(2).integers(0, 5, 4001)]
    assert_found(ExactIndex(vectors, dtype), units(3, 3), 1000)
    _, positions = ExactIndex(vectors, dtype).search(vectors[:1], 2)
    assert positions[0].tolist() == sorted(positions[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_near_duplicates_are_told_apart(dtype: str) -> None:
    center = units(1, 1)
    vectors = center + 1e-6 * units(6007, 2)
    assert_found(ExactIndex(vectors.astype(np.float32), dtype), center, 11)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_do_not_depend_on_the_company_of_a_query(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = ExactIndex(units(5003, 1), dtype), units(11, 2)
    together = index.search(queries, 5)
    monkeypatch.setattr("sensorium.search.exact._SCORES_AT_ONCE", 5003 * 2)
    for i in range(11):
        alone = index.search(queries[i : i + 1], 5)
        assert all(np.array_equal(x[i : i + 1], y) for x, y in zip(together, alone, strict=True))
    assert all(np.array_equal(x, y) for x, y in zip(together, index.search(queries, 5), strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_queries_need_not_be_units(dtype: str) -> None:
    lengths = np.geomspace(1e-3, 1e3, 5003, dtype=np.float32)[:, None]
    vectors = units(5003, 1) * lengths
    vectors[17] = 0
    assert_found(
        ExactIndex(vectors, dtype), np.concatenate([units(2, 2) * 100, np.zeros((1, WIDTH), np.float32)]), 7
    )


@pytest.mark.parametrize("width", [1, 512, 1031])
def test_int8_sums_do_not_overflow(width: int) -> None:
    vectors = np.sign(units(301, 1, width)).astype(np.float32)
    assert_found(ExactIndex(vectors, "int8"), vectors[:3], 5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_to_search(dtype: str) -> None:
    scores, positions = ExactIndex(np.zeros((0, WIDTH), np.float32), dtype).search(units(3, 1), 5)
    assert scores.shape == positions.shape == (3, 0)
    scores, _ = ExactIndex(units(4, 1), dtype).search(units(3, 1)[:0], 5)
    assert scores.shape == (0, 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_read_only_and_memory_mapped_vectors(dtype: str, tmp_path: object) -> None:
    np.save(f"{tmp_path}/v.npy", units(307, 1))
    assert_found(ExactIndex(np.load(f"{tmp_path}/v.npy", mmap_mode="r"), dtype), units(2, 2), 5)


@settings(deadline=None, max_examples=40)
@given(
    num=st.integers(1, 2000), k=st.integers(1, 40), seed=st.integers(0, 2**16), dtype=st.sampled_from(DTYPES),
    grain=st.sampled_from([1, 4, 1000]),
)  # fmt: skip
def test_any_table_with_many_ties(num: int, k: int, seed: int, dtype: str, grain: int) -> None:
    stream = np.random.default_rng(seed)
    vectors = (stream.integers(-grain, grain + 1, (num, 3)) / grain).astype(np.float32)
    assert_found(ExactIndex(vectors, dtype), stream.standard_normal((2, 3)).astype(np.float32), k)


def test_wrong_calls_are_refused() -> None:
    index = ExactIndex(units(11, 1))
    with pytest.raises(UsageError, match="k=0"):
        index.search(units(1, 1), 0)
    with pytest.raises(UsageError, match=r"expected \(q, 37\)"):
        index.search(units(1, 1, 5), 1)
    with pytest.raises(UsageError, match="not finite"):
        index.search(np.full((1, WIDTH), np.nan, np.float32), 1)
    with pytest.raises(UsageError, match="7 entries for 11"):
        index.search(units(1, 1), 1, np.ones(7, bool))
    with pytest.raises(UsageError, match="expected 0 to 10"):
        index.search(units(1, 1), 1, np.array([3, 11]))
    with pytest.raises(UsageError, match="fp32, bf16, int8"):
        ExactIndex(units(11, 1), "fp16")
    broken = units(11, 1)
    broken[3, 5] = np.inf
    for dtype in DTYPES:
        with pytest.raises(UsageError, match="not finite"):
            ExactIndex(broken, dtype)


def test_the_format_follows_from_the_size(monkeypatch):
    monkeypatch.setattr("sensorium.search.exact.INT8_FROM", 503)
    queries = units(3, 2)
    small, large = ExactIndex(units(502, 1)), ExactIndex(units(503, 1))
    assert (small.dtype, large.dtype) == ("fp32", "int8")
    for index in (small, large):
        for ours, plain in zip(
            index.search(queries, 7), ExactIndex(index.vectors, "fp32").search(queries, 7), strict=True
        ):
            np.testing.assert_array_equal(ours, plain)
