"""Exact time warping beside the fastest exact libraries: distance, path, matrix; CPU time, memory.

    python benchmarks/dtw.py [--rounds 7]

Every contender is a process of its own that stays alive, so that compiling is not timed; they take turns (A
B C, B C A, ...), one thread each, and what counts is the ratio of CPU times within a round. Results are
compared with ours in float64 before anything is timed. The peers compute in float64, so ratios are to ours
in float64; ours in float32 has rows of its own. `+ product` means that the peer was given a cost matrix
from one matrix product, its fastest way to exact paths (in float32, which halves its memory). Extra memory
is the peak of the resident set during a call less what was resident before. Writes `results/dtw.json`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

OURS = ["sensorium fp64", "sensorium fp32"]
BASE = OURS[0]
CASES: dict[str, tuple[str, int, list[str]]] = {
    "distance, 1-D, n = 1,000": ("distance", 1000, [*OURS, "aeon", "dtaidistance", "tslearn"]),
    "distance, 1-D, n = 10,000": ("distance", 10000, [*OURS, "aeon", "dtaidistance"]),
    "path, 1-D, n = 1,000": ("line", 1000, [*OURS, "aeon", "tslearn", "dtaidistance"]),
    "path, 80-D, n = 2,000": ("path", 2000, [*OURS, "tslearn + product", "librosa + product"]),
    "path, 80-D, n = 5,000": ("path", 5000, [*OURS, "tslearn + product", "librosa + product"]),
    "path, 80-D, n = 20,000": ("path", 20000, OURS),
    "matrix, 100 x 500": ("matrix", 0, [*OURS, "aeon", "tslearn", "dtaidistance"]),
    "matrix, 100 x 500, band 50": ("matrix", 50, [*OURS, "aeon", "dtaidistance"]),
}
THREAD_ROUNDS = 21
"""Of the two-thread rows, which a busy machine disturbs most."""
REPEATS = {"distance, 1-D, n = 1,000": 20, "distance, 1-D, n = 10,000": 3}


def pair(n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A walk and a warped, noisy copy of it (80-D), or two walks (1-D)."""
    random = np.random.default_rng(0)
    x = random.standard_normal((n, width)).cumsum(0)
    if width == 1:
        return x[:, 0], random.standard_normal(n).cumsum()
    y = x[np.sort(random.integers(0, n, n))] + 0.3 * random.standard_normal((n, width))
    return x.astype(np.float32), y.astype(np.float32)


def walks() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((100, 500)).cumsum(1)


def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances from one matrix product."""
    costs = x @ y.T
    costs *= -2
    costs += (x * x).sum(1)[:, None]
    costs += (y * y).sum(1)
    return np.maximum(costs, 0, out=costs)


def ours(kind: str, size: int, name: str) -> Callable[[], float]:
    from sensorium.align import dtw, dtw_matrix

    dtype = np.float64 if name.endswith("fp64") else np.float32
    if kind == "matrix":
        series, window = walks().astype(dtype), size or None
        return lambda: float(dtw_matrix(series, metric="sqeuclidean", window=window, num_threads=1).sum())
    x, y = (one.astype(dtype) for one in pair(size, 80 if kind == "path" else 1))
    return lambda: dtw(x, y, metric="sqeuclidean", path=kind != "distance").distance


def theirs(kind: str, size: int, name: str) -> Callable[[], float]:
    if kind == "path":
        x, y = pair(size, 80)
        if name.startswith("librosa"):
            from librosa.sequence import dtw as librosa_dtw

            return lambda: float(librosa_dtw(C=product(x, y))[0][-1, -1])
        from tslearn.metrics import dtw_path_from_metric

        return lambda: float(dtw_path_from_metric(product(x, y), metric="precomputed")[1])
    if kind == "line":
        return one_line(name, *pair(size, 1))
    if kind == "distance":
        return one_distance(name, *pair(size, 1))
    return one_matrix(name, walks(), size)


def one_line(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """Distance with its path."""
    if name == "aeon":
        from aeon.distances import dtw_alignment_path

        return lambda: float(dtw_alignment_path(x, y)[1])
    if name == "tslearn":
        from tslearn.metrics import dtw_path

        return lambda: float(dtw_path(x, y)[1]) ** 2
    from dtaidistance.dtw import warping_path_fast

    return lambda: float(warping_path_fast(x, y, include_distance=True)[1]) ** 2


def one_distance(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    if name == "aeon":
        from aeon.distances import dtw_distance

        return lambda: float(dtw_distance(x, y))
    if name == "tslearn":
        from tslearn.metrics import dtw

        return lambda: float(dtw(x, y)) ** 2
    from dtaidistance.dtw import distance_fast

    return lambda: float(distance_fast(x, y)) ** 2


def one_matrix(name: str, series: np.ndarray, band: int) -> Callable[[], float]:
    if name == "aeon":
        from aeon.distances import dtw_pairwise_distance

        wide = series[:, None]
        window = band / series.shape[1] if band else None
        return lambda: float(dtw_pairwise_distance(wide, window=window).sum())
    if name == "tslearn":
        from tslearn.metrics import cdist_dtw

        return lambda: float((cdist_dtw(series, n_jobs=1) ** 2).sum())
    from dtaidistance.dtw import distance_matrix_fast

    window = band + 1 if band else None  # theirs counts the diagonal
    return lambda: (
        2 * float((np.triu(distance_matrix_fast(series, parallel=False, window=window), 1) ** 2).sum())
    )


def status(field: str) -> float:
    """A line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def worker(name: str) -> None:
    """Child: for each case on stdin, run it and print value, CPU seconds and extra memory."""
    calls: dict[str, Callable[[], float]] = {}
    libc = ctypes.CDLL("libc.so.6")
    for line in sys.stdin:
        case = line.strip()
        kind, size, _ = CASES[case]
        if case not in calls:
            calls[case] = (ours if name.startswith("sensorium") else theirs)(kind, size, name)
            calls[case]()
        repeats = REPEATS.get(case, 1)
        libc.malloc_trim(0)  # what earlier calls freed is not resident any more
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before, start = status("VmRSS"), time.process_time()
        for _ in range(repeats):
            value = calls[case]()
        cpu_s = (time.process_time() - start) / repeats
        print(json.dumps({"value": value, "cpu_s": cpu_s, "mib": status("VmHWM") - before}), flush=True)


class Contender:
    """A child process and its answers."""

    def __init__(self, name: str) -> None:
        from machine import PEERS

        python = PEERS / "bin" / "python"
        if name == "aeon":
            python = PEERS.with_name(".venv-peers-aeon") / "bin" / "python"
        elif name.startswith("sensorium"):
            python = Path(sys.executable)
        single = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._child = subprocess.Popen(
            [str(python), __file__, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | single,
        )

    def take(self, case: str) -> dict[str, float]:
        """Run a case once more."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(case + "\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())

    def close(self) -> None:
        """Let the child end."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()


def measure(case: str, rounds: int) -> list[dict[str, object]]:
    """Rows of one case: equal first, then in turns."""
    from machine import in_turns, ratios

    names = CASES[case][2]
    contenders = {name: Contender(name) for name in names}
    first = {name: contenders[name].take(case) for name in names}
    errors = {name: abs(one["value"] / first[BASE]["value"] - 1) for name, one in first.items()}
    assert max(errors.values()) < 1e-4, errors
    taken = in_turns(names, rounds, lambda name: contenders[name].take(case))
    for contender in contenders.values():
        contender.close()
    over = ratios({name: [one["cpu_s"] for one in runs] for name, runs in taken.items()}, BASE)
    rows = []
    for name in names:
        rows.append(
            {
                "what": f"{case}: {name}",
                "CPU ms": round(1000 * statistics.median(one["cpu_s"] for one in taken[name]), 3),
                "times ours fp64": round(over[name]["median"], 2),
                "least and greatest": [round(over[name]["min"], 2), round(over[name]["max"], 2)],
                "extra MiB": round(statistics.median(one["mib"] for one in taken[name]), 1),
                "difference": float(f"{errors[name]:.1g}"),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def two_threads(rounds: int) -> list[dict[str, object]]:
    """CPU time of one thread over that of the busier of two, what two idle cores gain; and wall time."""
    from sensorium.align import dtw_matrix
    from sensorium.dtw.batched import Lanes

    spent: dict[int, float] = defaultdict(float)
    plain, series = Lanes.distances, walks()

    def counted(self: Lanes, pairs: np.ndarray, limit: float) -> np.ndarray:
        start = time.thread_time()
        try:
            return plain(self, pairs, limit)
        finally:
            spent[threading.get_ident()] += time.thread_time() - start

    Lanes.distances = counted  # type: ignore[method-assign]
    gains: dict[str, list[float]] = {"CPU of the busier thread": [], "wall time": []}
    for _ in range(rounds + 1):
        cpu, wall = [], []
        for num_threads in (1, 2):
            spent.clear()
            start = time.perf_counter()
            dtw_matrix(series, metric="sqeuclidean", num_threads=num_threads)
            wall.append(time.perf_counter() - start)
            cpu.append(max(spent.values()))
        for one, times in zip(gains.values(), (cpu, wall), strict=True):
            one.append(times[0] / times[1])
    return [
        {
            "what": f"matrix, 100 x 500: sensorium fp64, one thread over two, {what}",
            "times ours fp64": round(statistics.median(one[1:]), 2),
            "least and greatest": [round(min(one[1:]), 2), round(max(one[1:]), 2)],
        }
        for what, one in gains.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    from machine import machine, require_idle, write

    require_idle()
    rows = [row for case in CASES for row in measure(case, options.rounds)]
    figures = {
        "claim": "Exact DTW with squared Euclidean costs, CPU time of one core, contenders in turns, "
        f"{options.rounds} rounds. Times ours: CPU time over ours in float64 in the same round.",
        "rounds": options.rounds,
        "machine": machine(("numpy", "numba", "torch")),
        "rows": rows + two_threads(THREAD_ROUNDS),
        "notes": [
            "Peers: aeon 1.6.0, tslearn 0.10.0, dtaidistance 2.5.1, librosa 0.11.0.",
            "The peers compute in float64. + product: given a cost matrix from one float32 matrix product, "
            "timed "
            "with it.",
            "Difference: relative, of the distance (of the matrix's sum), from ours in float64.",
        ],
    }
    print(write("dtw", figures))


if __name__ == "__main__":
    main()
