"""What a benchmark ran on, how contenders take turns, which code a result measures, and where figures go.

The laws of every comparison in time are held here, and `render.py` reads them again from the results: a
machine whose load is above its cores is refused, contenders take turns in rotated order for `MIN_ROUNDS`
rounds or more, and a result keeps a hash of the code that it measured.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PEERS = Path(__file__).parent / ".venv-peers"
"""Environment of the peers: see `benchmarks/README.md`."""
MIN_ROUNDS = 7
LOAD_AT_START = os.getloadavg()[0]
"""Runnable processes, mean of the minute before the benchmark began."""

MEASURED_CODE: dict[str, tuple[str, ...]] = {
    "baselines": ("questions.py", "scenes.py", "question_bias.py", "scenes_table.py"),
    "captions": (
        "models",
        "knn_captions.py",
        "knn_mixture.py",
        "generation/multimodal.py",
        "assistants/multimodal_assistant.py",
    ),
    "codecs": ("codecs", "evals/reconstruction.py"),
    "drawing": ("generation", "rerank.py", "scenes.py"),
    "dtw": (
        "dtw/costs.py",
        "dtw/batched.py",
        "dtw/exact.py",
        "dtw/torch_backend.py",
        "core/jit.py",
        "dtw/path_kernels.py",
        "dtw/distance_kernels.py",
        "dtw/simd_kernels.py",
        "dtw/warping.py",
        "dtw/pairwise.py",
        "dtw/metrics.py",
    ),
    "emoji_scratch": ("encoders", "losses", "models/joint_embedding.py", "training/loop.py"),
    "fusion": ("fusion", "nn"),
    "generation": ("generation/cpu", "generation/engine.py", "generation/sampling.py"),
    "generative_loss": ("losses/generative.py",),
    "grounding": ("models/grounder.py", "nn/matching.py", "grounding/saliency.py", "grounding/predict.py"),
    "help_time": ("cli", "__init__.py", "__main__.py"),
    "image_decode": ("media/image.py", "media/pixels.py", "media/opening.py", "media/orientation.py"),
    "loss": (
        "losses/contrastive.py",
        "losses/sigmoid_tiles.py",
        "losses/softmax_tiles.py",
        "losses/tiles.py",
        "losses/positives.py",
    ),
    "questions": ("models/multimodal_lm.py", "generation/multimodal.py", "questions.py"),
    "quickstart": ("search/quickstart.py", "training", "encoders", "models/joint_embedding.py"),
    "search": ("search/exact.py", "search/approximate.py"),
    "shots": ("video/shots.py", "media/frames.py", "video/transnet.py"),
    "soft_dtw": (
        "dtw/soft_*.py",
        "dtw/barycentre.py",
    ),
    "speech": (
        "models/recogniser.py",
        "lexicon_decoding.py",
        "lexicon.py",
        "pronunciation.py",
    ),
    "speech_alignment": (
        "align/synthetic_speech.py",
        "align/forced_alignment.py",
        "dtw/costs.py",
        "dtw/batched.py",
        "dtw/exact.py",
        "dtw/torch_backend.py",
        "media/logmel*.py",
    ),
    "stamps": ("encoders", "losses", "models/joint_embedding.py", "training/loop.py"),
    "summary": (
        "video/summarize.py",
        "video/highlights.py",
        "video/features.py",
        "video/reel.py",
        "media/frames.py",
    ),
    "table_reads": ("data/table/table.py", "data/table/store.py", "data/table/schema.py"),
    "towers": ("encoders/backend.py",),
    "transcription": (
        "speech/transcribe.py",
        "speech/decode_window.py",
        "assistants/chunked_transcribe.py",
        "models/pretrained/whisper.py",
    ),
    "translation": ("models/multimodal_lm.py", "generation/multimodal.py", "phrase_table.py"),
}
"""Code of the core and of the plug-in that a result measures: files, folders or patterns."""

Value = TypeVar("Value")


def require_idle() -> None:
    """Leave with one line if other work is running: a comparison in time needs a machine of its own."""
    cores = len(os.sched_getaffinity(0))
    if cores < LOAD_AT_START:
        sys.exit(
            f"load {LOAD_AT_START:.1f} on {cores} cores: figures in time need an idle machine; wait for "
            "other work to end"
        )


def in_turns(contenders: Sequence[str], rounds: int, take: Callable[[str], Value]) -> dict[str, list[Value]]:
    """Let contenders take turns: A B C, B C A, C A B, ... for at least `MIN_ROUNDS` rounds.

    Args:
        contenders: Their names.
        rounds: How often each has its turn.
        take: Runs one contender once and returns what was measured.
    """
    if rounds < MIN_ROUNDS:
        sys.exit(f"{rounds} rounds; a comparison needs at least {MIN_ROUNDS}")
    found: dict[str, list[Value]] = {name: [] for name in contenders}
    for turn in range(rounds):
        shift = turn % len(contenders)
        for name in [*contenders[shift:], *contenders[:shift]]:
            found[name].append(take(name))
    return found


def ratios(times: dict[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Median and range of each contender's time over that of `base` in the same round."""
    return {
        name: spread([own / other for own, other in zip(values, times[base], strict=True)])
        for name, values in times.items()
    }


def machine(packages: Sequence[str] = ("torch", "numpy")) -> dict[str, object]:
    """CPU, cores, load before the start, and versions, to stand beside every figure."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cpu_flags": sorted(cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile"}),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(LOAD_AT_START, 2),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "packages": found,
        "date": datetime.now(UTC).date().isoformat(),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of repeated measurements."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def write(name: str, figures: dict[str, object]) -> Path:
    """Write `results/<name>.json` with a hash of the code that it measures."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(figures | {"code_sha256": code_hash(name)}, indent=1) + "\n")
    return path


def code_hash(name: str) -> str:
    """SHA-256 of the code that a result measures, wherever it lies: no comments, docstrings, own imports."""
    codes = (_bare_code(path.read_text(encoding="utf-8")) for path in code_files(name))
    each = sorted(hashlib.sha256(code.encode()).hexdigest() for code in codes)
    return hashlib.sha256("".join(each).encode()).hexdigest()


def code_files(name: str) -> list[Path]:
    """Files whose change makes a result old, each once, in the order of their names."""
    sources = (ROOT / "src" / "sensorium", ROOT / "contrib" / "composed_world" / "src" / "composed_world")
    found: set[Path] = set()
    for pattern in MEASURED_CODE[name]:
        paths = [path for source in sources for path in source.glob(pattern)]
        if not paths:
            raise FileNotFoundError(f"MEASURED_CODE of '{name}' names {pattern}, which is not there")
        for path in paths:
            found |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return sorted(found)


def _bare_code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [one for one in node.body if not (_is_docstring(one) or _is_own_import(one))]
    return ast.dump(tree)


def _is_docstring(one: ast.stmt) -> bool:
    return (
        isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
    )


def _is_own_import(one: ast.stmt) -> bool:
    return isinstance(one, ast.ImportFrom) and (one.module or "").startswith(("sensorium", "composed_world"))


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def cpu_flags() -> set[str]:
    """What the processor can do, by the kernel's names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))
