"""Reading a media table: random blobs a second beside single files, and cached features beside a `.npy` file.

Also what it costs to write vectors into the rows themselves rather than beside them. The page cache is warm;
the contenders take turns. Writes results/table_reads.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

from machine import machine, spread, write
from sensorium.data.sample import Sample
from sensorium.data.table import Table

BLOB_BYTES, BATCH, DIM = 20_000, 256, 384
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        table = fill(Path(folder), rows)
        overhead = size(table.path) / (rows * BLOB_BYTES)
        figures = {
            "machine": machine(("pylance", "pyarrow", "numpy")),
            "rows": rows,
            "blob_bytes": BLOB_BYTES,
            "batch": BATCH,
            "rounds": ROUNDS,
            "bytes_on_disk_over_bytes_of_media": round(overhead, 4),
            "blobs_per_s": blobs(table, Path(folder) / "files"),
            "feature_vectors_per_s": features(table, Path(folder) / "features.npy"),
            "beside_or_inside": beside_or_inside(table, Path(folder) / "inside.lance"),
        }
    print(write("table_reads", figures).read_text())


def fill(folder: Path, rows: int) -> Table:
    """The same random blobs as a table and as files."""
    dice = np.random.default_rng(0)
    (folder / "files").mkdir()

    def samples():
        for row in range(rows):
            blob = dice.bytes(BLOB_BYTES)
            (folder / "files" / f"{row}.bin").write_bytes(blob)
            yield Sample(f"{row}", image=blob)

    table = Table.create(folder / "table.lance")
    table.add(samples())
    table.optimize()
    return table


def blobs(table: Table, files: Path) -> dict[str, dict[str, float]]:
    """Random blobs a second, in batches."""
    dataset = lance.dataset(table.path / "rows.lance")

    def read_files(numbers: np.ndarray) -> None:
        assert all((files / f"{number}.bin").read_bytes() for number in numbers)

    contenders: dict[str, Callable[[np.ndarray], object]] = {
        "Table.rows": lambda numbers: table.rows(numbers, columns=["image"]),
        "lance take": lambda numbers: dataset.take(numbers.tolist(), columns=["image"]),
        "one file each": read_files,
    }
    dice = np.random.default_rng(1)
    orders = [dice.integers(0, len(table), (8, BATCH)) for _ in range(ROUNDS)]
    return rates(contenders, orders, 8 * BATCH)


def features(table: Table, path: Path) -> dict[str, dict[str, float]]:
    """All cached features at once, vectors a second."""
    values = np.random.default_rng(2).standard_normal((len(table), DIM)).astype(np.float32)
    for start in range(0, len(table), 1024):
        part = values[start : start + 1024]
        table.set_features("f", np.arange(start, start + len(part)), np.arange(len(part) + 1), part)
    np.save(path, values)
    assert np.array_equal(table.features("f").values, values)
    contenders: dict[str, Callable[[np.ndarray], object]] = {
        "Table.features": lambda _: table.features("f"),
        "np.load": lambda _: np.load(path),
    }
    return rates(contenders, [np.zeros((1, 1))] * ROUNDS, len(table))


def rates(
    contenders: dict[str, Callable[[np.ndarray], object]], orders: list[np.ndarray], num_items: int
) -> dict[str, dict[str, float]]:
    """Items a second of contenders that take turns, and the first's rate over the last's in each round."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for parts in [orders[0], *orders]:
        for name, read in contenders.items():
            start = time.perf_counter()
            for part in parts:
                read(part)
            found[name].append(num_items / (time.perf_counter() - start))
    ours, *_, peers = (values[1:] for values in found.values())
    ratio = spread([one / other for one, other in zip(ours, peers, strict=True)])
    return {name: spread(values[1:]) for name, values in found.items()} | {"ours over last": ratio}


def beside_or_inside(table: Table, path: Path) -> dict[str, object]:
    """Vectors of 512 rows written beside the rows, and into the rows by `merge_insert`."""
    values = np.random.default_rng(3).standard_normal((512, DIM)).astype(np.float32)
    before, start = size(table.path), time.perf_counter()
    table.set_vectors("image", "model", np.arange(512), values)
    beside = {"seconds": time.perf_counter() - start, "bytes": size(table.path) - before}

    dataset = lance.write_dataset(
        lance.dataset(table.path / "rows.lance").to_table(columns=["row", "image"]), path
    )
    dataset.add_columns(pa.schema([pa.field("vector", pa.list_(pa.float32(), DIM))]))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), DIM)
    new = pa.table({"row": pa.array(np.arange(512)), "vector": vectors})
    before, start = size(path), time.perf_counter()
    dataset.merge_insert("row").when_matched_update_all().execute(new)
    inside = {"seconds": time.perf_counter() - start, "bytes": size(path) - before}
    rows = dataset.to_table(columns=["row"])["row"].to_numpy()
    return {
        "bytes_of_vectors": values.nbytes,
        "beside": beside,
        "inside": {**inside, "rows_kept_their_places": bool(np.array_equal(rows, np.arange(len(rows))))},
    }


def size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
