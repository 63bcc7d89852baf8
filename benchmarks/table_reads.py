"""Reading a media table: random blobs a second beside single files, and cached features beside a `.npy` file.

    python benchmarks/table_reads.py [--rows 10000]

Files are read one after another and by a pool of eight threads; raw Lance is there too. Warm: everything is
in the page cache. Cold: the kernel was told to drop the pages of the contender's files before each turn
(`posix_fadvise`). Also what it costs to write vectors into the rows themselves rather than beside them.
Writes `results/table_reads.json`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

from machine import in_turns, machine, ratios, require_idle, spread, write
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table

BLOB_BYTES, BATCH, DIM = 20_000, 256, 384
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    require_idle()
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
            "blobs_per_s": blobs(table, Path(folder) / "files", is_cold=False),
            "blobs_per_s_cold": blobs(table, Path(folder) / "files", is_cold=True),
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


def blobs(table: Table, files: Path, is_cold: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Random blobs a second, in batches."""
    dataset = lance.dataset(table.path / "rows.lance")
    pool = ThreadPoolExecutor(8)

    def read(number: int) -> bytes:
        return (files / f"{number}.bin").read_bytes()

    contenders: dict[str, Callable[[np.ndarray], object]] = {
        "Table.rows": lambda numbers: table.rows(numbers, columns=["image"]),
        "lance take": lambda numbers: dataset.take(numbers.tolist(), columns=["image"]),
        "one file each, eight threads": lambda numbers: list(pool.map(read, numbers)),
        "one file each": lambda numbers: [read(number) for number in numbers],
    }
    orders = np.random.default_rng(1).integers(0, len(table), (ROUNDS + 1, 8, BATCH))
    folders = {name: files if "file" in name else table.path for name in contenders} if is_cold else {}
    with pool:
        return rates(contenders, list(orders), 8 * BATCH, folders)


def forget(folder: Path) -> None:
    """Ask the kernel to drop the pages of all files below."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


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
    return rates(contenders, [np.zeros((1, 1))] * (ROUNDS + 1), len(table), {})


def rates(
    contenders: dict[str, Callable[[np.ndarray], object]],
    orders: list[np.ndarray],
    num_items: int,
    cold: dict[str, Path],
) -> dict[str, dict[str, dict[str, float]]]:
    """Items a second of contenders that take turns, and the first's rate over theirs in each round.

    Args:
        contenders: Each reads the rows it is given.
        orders: Rows of each round; the first warms up.
        num_items: In a round.
        cold: Folder whose pages a contender does without; empty: all are warm.
    """
    for read in contenders.values():
        for part in orders[0]:
            read(part)
    turns = dict.fromkeys(contenders, 0)

    def take(name: str) -> float:
        turns[name] += 1
        if name in cold:
            forget(cold[name])
        start = time.perf_counter()
        for part in orders[turns[name]]:
            contenders[name](part)
        return num_items / (time.perf_counter() - start)

    found = in_turns(list(contenders), ROUNDS, take)
    ours = next(iter(contenders))
    over = ratios({name: [1 / one for one in values] for name, values in found.items()}, ours)
    return {
        name: {"per second": spread(values), "ours over it": over[name]} for name, values in found.items()
    }


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
