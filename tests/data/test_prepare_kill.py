"""kill -9 at any moment: nothing that was on disk is lost, nothing is there twice."""

import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effort import NUM_KILLS
from sensorium.core.errors import NotFoundError, TableError
from sensorium.data.table.table import Table

NUM_ROWS = 600
NUM_BAD = 20
SCRIPT = (
    "import sys, time\n"
    "from sensorium.data.ingest import prepare as module\n"
    "module.BATCH_ROWS = 7\n"
    "take = module._Run.take\n"
    "module._Run.take = lambda run, outcome: (time.sleep(0.02), take(run, outcome))\n"
    "from sensorium.cli import main\n"
    "sys.exit(main(['data', 'prepare', sys.argv[1], '-o', sys.argv[2], '--workers', '2', '--json']))\n"
)


def write_sources(root: Path) -> None:
    root.mkdir()
    rng = np.random.default_rng(11)
    for number in range(NUM_ROWS):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (31, 37, 3), dtype=np.uint8)).save(buffer, "PNG")
        (root / f"{number:04d}.png").write_bytes(buffer.getvalue())
        (root / f"{number:04d}.txt").write_text(f"picture number {number}")
    for number in range(NUM_BAD):
        (root / f"{number * 29:04d}-bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]))


def start(src: Path, out: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(src), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def ids_of(out: Path) -> list[str]:
    try:
        return list(Table.open(out).ids)
    except (NotFoundError, TableError):
        return []


def kill_at(process: "subprocess.Popen[bytes]", out: Path, grown_by: int, wait_s: float) -> bool:
    """Kill a little after the table has grown; say whether it was still running."""
    before = len(ids_of(out))
    deadline = time.monotonic() + 60
    while process.poll() is None and len(ids_of(out)) < before + grown_by and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(wait_s)
    was_running = process.poll() is None
    process.kill()
    process.communicate()
    return was_running


@pytest.mark.slow
def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    src, out = tmp_path / "src", tmp_path / "t.lance"
    write_sources(src)
    chance = random.Random(5)
    known: list[str] = []
    num_running = 0
    for _ in range(NUM_KILLS):
        process = start(src, out)
        num_running += kill_at(process, out, chance.choice([0, 1, 8, 20]), chance.random() * 0.3)
        now = ids_of(out)
        assert now[: len(known)] == known
        assert len(set(now)) == len(now)
        known = now
    process = start(src, out)
    last = json.loads(process.communicate()[0].splitlines()[-1])
    assert process.returncode == 3
    table = Table.open(out)
    assert last == {
        "rows": NUM_ROWS,
        "added": NUM_ROWS - len(known),
        "failed": NUM_BAD,
        "duplicates": len(known),
    }
    assert sorted(Path(uri).name for uri in table.column("uri")) == [f"{n:04d}.png" for n in range(NUM_ROWS)]
    assert len(set(table.ids)) == NUM_ROWS
    errors = [json.loads(line)["path"] for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert len(errors) == len(set(errors)) == NUM_BAD
    assert num_running >= NUM_KILLS // 2
