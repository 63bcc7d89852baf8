"""Latency of single-query top-10 search: NumPy scan, faiss, ours in three number formats.

    python benchmarks/search.py [--sizes 10000 100000 1000000] [--rounds 15] [--ann]

Contenders take turns on the same vectors, each query is a new one, and the results of the exact ones are
compared before anything is timed. One thread each: faiss would use a second one only for a second query,
ours for one query too, which rows of their own show (`2 threads`). faiss runs in the peers' environment
over the same memory-mapped file, in a process of its own that answers when asked, so that turns alternate.
Its `SQ8,RFlat` scores the best candidates of SQ8 again, as ours does. `--ann` adds Lance's indexes (minutes
to build at a million), which use threads of their own. Writes `results/search.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

WIDTH, K = 512, 10
FAISS = ("Flat", "SQ8", "SQ8,RFlat")
Timed = Callable[[int], tuple[float, list[int]]]
"""Number of a query -> seconds, positions found."""


def make_vectors(path: Path, num: int) -> None:
    """Unit rows with a structure of topics: neighbours exist, as in real media."""
    stream = np.random.default_rng(0)
    topics = stream.standard_normal((1000, WIDTH), dtype=np.float32)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(num, WIDTH))
    for low in range(0, num, 50_000):
        size = min(50_000, num - low)
        rows = topics[stream.integers(0, 1000, size)]
        rows += 1.5 * stream.standard_normal((size, WIDTH), dtype=np.float32)
        out[low : low + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    out.flush()


def make_queries(path: Path, vectors: np.ndarray, num: int) -> np.ndarray:
    stream = np.random.default_rng(1)
    near = np.array(vectors[stream.integers(0, len(vectors), num)])
    near += 0.05 * stream.standard_normal(near.shape, dtype=np.float32)
    queries = near / np.linalg.norm(near, axis=1, keepdims=True)
    np.save(path, queries)
    return queries


def numpy_scan(vectors: np.ndarray, queries: np.ndarray) -> Timed:
    def search(number: int) -> tuple[float, list[int]]:
        start = time.perf_counter()
        scores = vectors @ queries[number]
        top = np.argpartition(scores, len(scores) - K)[-K:]
        top = top[np.argsort(-scores[top], kind="stable")]
        return time.perf_counter() - start, top.tolist()

    return search


def ours(vectors: np.ndarray, queries: np.ndarray, dtype: str, threads: int) -> Timed:
    import torch

    from sensorium.search.exact import ExactIndex

    index = ExactIndex(vectors, dtype)

    def search(number: int) -> tuple[float, list[int]]:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        _, positions = index.search(queries[number : number + 1], K)
        return time.perf_counter() - start, positions[0].tolist()

    return search


def serve_faiss(vectors_path: str, queries_path: str, kind: str) -> None:
    """Child in the peers' environment: a query's number on each line in, seconds and positions out."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors, queries = np.load(vectors_path, mmap_mode="r"), np.load(queries_path)
    index = faiss.index_factory(WIDTH, kind, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(np.array(vectors[:100_000]))
    for low in range(0, len(vectors), 50_000):
        index.add(np.array(vectors[low : low + 50_000]))
    print(json.dumps(faiss.__version__), flush=True)
    for line in sys.stdin:
        number = int(line)
        start = time.perf_counter()
        _, positions = index.search(queries[number : number + 1], K)
        print(json.dumps([time.perf_counter() - start, positions[0].tolist()]), flush=True)


@contextmanager
def faiss_child(vectors_path: Path, queries_path: Path, kind: str) -> Iterator[tuple[Timed, str]]:
    from machine import PEERS

    order = [str(PEERS / "bin" / "python"), __file__, "--faiss", str(vectors_path), str(queries_path), kind]
    with subprocess.Popen(order, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        ask, answer = child.stdin, child.stdout
        release = json.loads(answer.readline())

        def search(number: int) -> tuple[float, list[int]]:
            print(number, file=ask, flush=True)
            seconds, positions = json.loads(answer.readline())
            return seconds, positions

        yield search, release
        ask.close()


def lance_ann(folder: Path, vectors: np.ndarray, queries: np.ndarray, kind: str) -> tuple[Timed, float]:
    from sensorium.search import approximate

    dataset = approximate.write_dataset(
        folder / f"{kind}.lance", np.asarray(vectors), np.arange(len(vectors))
    )
    start = time.perf_counter()
    dataset = approximate.build_index(dataset, kind=kind)
    seconds = time.perf_counter() - start

    def search(number: int) -> tuple[float, list[int]]:
        begin = time.perf_counter()
        _, rows = approximate.search_index(dataset, queries[number : number + 1], K)
        return time.perf_counter() - begin, rows[0].tolist()

    return search, seconds


def compare(contenders: dict[str, Timed], num_queries: int, rounds: int) -> dict[str, object]:
    """Recall of each against the NumPy scan, then times in turns."""
    from machine import in_turns, ratios, spread

    truth = [contenders["numpy"](number)[1] for number in range(num_queries)]
    figures: dict[str, dict[str, object]] = {}
    for name, search in contenders.items():
        same = [len(set(search(number)[1]) & set(truth[number])) / K for number in range(num_queries)]
        figures[name] = {"recall": float(np.mean(same))}
        if name.startswith("sensorium") or name == "faiss Flat":
            assert figures[name]["recall"] == 1, (name, figures[name])
    asked = dict.fromkeys(contenders, -1)

    def take(name: str) -> float:
        asked[name] += 1
        return 1000 * contenders[name](asked[name] % num_queries)[0]

    times = in_turns(list(contenders), rounds, take)
    over = ratios(times, "numpy")
    for name in contenders:
        figures[name] |= {"ms": spread(times[name]), "vs_numpy": over[name]}
        print(name, json.dumps(figures[name]), file=sys.stderr, flush=True)
    return dict(figures)


def measure(num: int, rounds: int, with_ann: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_vectors(folder / "vectors.npy", num)
        vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="r"))
        queries = make_queries(folder / "queries.npy", vectors, min(15, rounds))
        paths = (folder / "vectors.npy", folder / "queries.npy")
        contenders: dict[str, Timed] = {"numpy": numpy_scan(vectors, queries)}
        with ExitStack() as stack:
            for kind in FAISS:
                contenders[f"faiss {kind}"], release = stack.enter_context(faiss_child(*paths, kind))
            for dtype in ("fp32", "bf16", "int8"):
                contenders[f"sensorium {dtype}"] = ours(vectors, queries, dtype, threads=1)
            contenders["sensorium int8, 2 threads"] = ours(vectors, queries, "int8", threads=2)
            builds = {}
            for kind in ("IVF_PQ", "IVF_HNSW_SQ") if with_ann else ():
                contenders[f"lance {kind}"], builds[kind] = lance_ann(folder, vectors, queries, kind)
            figures = compare(contenders, len(queries), rounds)
    return {"contenders": figures, "ann_build_s": builds, "faiss": release}


def main() -> None:
    from machine import machine, require_idle, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ann", action="store_true")
    parser.add_argument("--faiss", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.faiss:
        serve_faiss(*options.faiss)
        return
    if os.environ.get("OMP_NUM_THREADS") != "1":  # NumPy's threads are set before it is imported
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | single)
    require_idle()
    figures: dict[str, object] = {
        "machine": machine(("numpy", "torch", "numba", "pylance")),
        "width": WIDTH,
        "k": K,
        "rounds": options.rounds,
    }
    sizes: dict[str, object] = {}
    for num in options.sizes:
        sizes[str(num)] = measure(num, options.rounds, options.ann)
        print(write("search", figures | {"sizes": sizes}))


if __name__ == "__main__":
    main()
