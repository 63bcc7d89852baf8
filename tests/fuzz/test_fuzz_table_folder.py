"""Damaged table folders: files cut, emptied, deleted, doubled, exchanged, or with bytes changed.

Each reading gives what was written or one line of a `SensoriumError`. Lance keeps no checksums: where single
bytes were changed, a value may be another of the same kind, but not of another shape, and nothing crashes.
"""

import os
import shutil
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import bounded
from rich_rows import rich_sample

from sensorium.core.errors import SensoriumError
from sensorium.core.types import Embeddings
from sensorium.data.ingest.errors import read_failures
from sensorium.data.table.summary import summarise
from sensorium.data.table.table import Table
from sensorium.search.approximate import build_approximate
from sensorium.search.embedding_log import log_model, read_log

EXAMPLES = int(os.environ.get("SENSORIUM_FUZZ_EXAMPLES", "25"))
WIDTH, ROWS, MORE = 23, 520, 47


class Model:
    fingerprint = "f"

    def embed(self, items):
        return Embeddings(units(len(items), 9))


def units(num: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((num, WIDTH))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def fill(path: Path) -> None:
    table = Table.create(path)
    table.add(rich_sample(number) for number in range(ROWS))
    table.add(rich_sample(number) for number in range(ROWS, ROWS + MORE))
    table.set_vectors("image", "f", np.arange(ROWS), units(ROWS, 1))
    table.set_vectors("image", "g", np.arange(ROWS), units(ROWS, 2))
    table.set_vectors("text", "f", np.arange(0, ROWS + MORE, 3), units(len(range(0, ROWS + MORE, 3)), 3))
    table.set_features("image:cnn:1", np.arange(7), np.arange(8), units(7, 4))
    log_model(table, "f", path, ["en"])
    build_approximate(table, "f")


def read(path: Path) -> str:
    """Read all that there is, each by itself; says what was refused."""
    is_exact = path.name.startswith("exact")
    table = Table.open(path)
    asked: dict[str, Callable[[Table], object]] = {
        "rows": lambda table: check_rows(table, is_exact),
        "ids": lambda table: check_ids(table.ids),
        "columns": lambda table: [table.column(name) for name in ("uri", "meta", "duration_s", "regions")],
        "where": lambda table: check_where(table.where("has_audio AND row > 10"), is_exact),
        "summary": lambda table: summarise(table, 3).as_dict(),
        "vectors": lambda table: check_vectors(*table.vectors("image", "f"), 1, is_exact),
        "others": lambda table: check_vectors(*table.vectors("image", "g"), 2, is_exact),
        "row": lambda table: table.row_vectors("text", "f", 3),
        "features": lambda table: table.features("image:cnn:1"),
        "search": lambda table: check_hits(table.search(units(1, 5)[0], model=Model(), k=3), is_exact),
        "words": lambda table: table.search("frog 7", model=Model(), min_score=0.5),
        "ann": lambda table: check_hits(table.search(units(1, 5)[0], model=Model(), k=3, ann=True), False),
        "models": read_log,
        "errors": lambda table: read_failures(table.path),
        "tidy": Table.optimize,
    }
    refused = {}
    for name, reading in asked.items():
        try:
            reading(table)
        except SensoriumError as error:
            refused[name] = str(error)
    for message in refused.values():
        assert not any(noise in message for noise in ("\n", ".rs:", "rustc", "LanceError")), message
    return ", ".join(sorted(refused))


def check_rows(table: Table, is_exact: bool) -> None:
    assert len(table) == ROWS + MORE
    for number, sample in enumerate(table.rows(range(len(table)))):
        if is_exact:
            assert sample.id == rich_sample(number).id, number
        assert sample.image is None or isinstance(sample.image, bytes)
        assert all(isinstance(caption.text, str) for caption in sample.texts)


def check_ids(ids: list[str]) -> None:
    assert len(ids) == ROWS + MORE


def check_where(rows: np.ndarray, is_exact: bool) -> None:
    assert not is_exact or rows.tolist() == list(range(15, ROWS + MORE, 5))
    assert np.all(np.diff(rows) > 0)


def check_vectors(rows: np.ndarray, values: np.ndarray, seed: int, is_exact: bool) -> None:
    assert values.shape == (len(rows), WIDTH)
    assert np.isfinite(values).all()
    if is_exact:
        np.testing.assert_array_equal(values, units(ROWS, seed))
        assert rows.tolist() == list(range(ROWS))


def check_hits(hits: list, is_exact: bool) -> None:
    assert len(hits) == 3
    assert all(np.isfinite(hit.score) and 0 <= hit.row < ROWS + MORE for hit in hits)
    if is_exact:
        scores = units(ROWS, 1) @ units(1, 5)[0]
        assert hits[0].score == pytest.approx(scores.max(), abs=1e-5)


def damage(folder: Path, kind: str, which: float, where: float, others: list[tuple[float, int]]) -> str:
    """Do one thing to one file; `which` and `where` are shares of all files and of its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path, other = files[int(which * len(files))], files[int(where * len(files))]
    data = bytearray(path.read_bytes())
    match kind:
        case "cut":
            path.write_bytes(data[: int(where * len(data))])
        case "empty":
            path.write_bytes(b"")
        case "delete":
            path.unlink()
        case "double":
            path.write_bytes(data + data)
        case "replace":
            path.write_bytes(other.read_bytes())
        case "swap":
            path.write_bytes(other.read_bytes())
            other.write_bytes(data)
        case "flip" | "tail":
            first = 0 if kind == "flip" else max(0, len(data) - 300)
            for place, value in others:
                data[first + int(place * (len(data) - first))] = value
            path.write_bytes(data)
    return f"{kind} {path.relative_to(folder)}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "exact.lance"
    fill(path)
    return path


@pytest.fixture(scope="module")
def reader(whole: Path):
    with bounded.BoundedReader("test_fuzz_table_folder:read", whole) as reader:
        yield reader


shares = st.floats(0, 1, exclude_max=True)
NUMBERS = count()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    kind=st.sampled_from(
        ["cut", "empty", "delete", "double", "replace", "swap", "flip", "flip", "tail", "tail"]
    ),
    which=shares,
    where=shares,
    others=st.lists(st.tuples(shares, st.integers(0, 255)), min_size=1, max_size=20),
)
def test_a_damaged_folder_gives_right_values_or_one_line(whole, reader, kind, which, where, others):
    is_exact = kind not in ("flip", "tail")
    folder = whole.parent / f"{'exact' if is_exact else 'other'}-{next(NUMBERS)}.lance"
    shutil.copytree(whole, folder)
    try:
        what = damage(folder, kind, which, where, others)
        outcome = reader(folder)
        try:
            bounded.assert_sound(outcome)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error
    finally:
        shutil.rmtree(folder)


def test_an_undamaged_folder_is_read_in_whole(whole, reader):
    assert reader(whole).text == "''"
