"""What `add` and `set_features` have reported survives kill -9; nothing is there twice."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from effort import NUM_KILLS
from sensorium.data.table.table import Table

SCRIPT = """
import sys
import numpy as np
from sensorium.data.table import table as table_module
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table

path, count = sys.argv[1], int(sys.argv[2])
table_module.BATCH_ROWS = 7
table = Table.open(path)
contents = (Sample(f"u{n}", image=n.to_bytes(4, "big") * 500) for n in range(count))
table.add(contents, progress=lambda done, total, message: print("rows", len(table), flush=True))
while len(missing := table.features_missing("f")):
    part = missing[:11]
    table.set_features("f", part, np.arange(len(part) + 1), np.repeat(part[:, None], 3, 1).astype(np.float32))
    print("features", len(table) - len(missing) + len(part), flush=True)
table.optimize()
print("done", flush=True)
"""
NUM_ROWS = 1501


@pytest.mark.slow
def test_kills_lose_and_double_nothing(tmp_path: Path):
    Table.create(tmp_path / "t")
    script = tmp_path / "write.py"
    script.write_text(SCRIPT)
    dice = random.Random(0)
    seen = {"rows": 0, "features": 0}
    for _ in range(NUM_KILLS):
        run = start(script, tmp_path / "t")
        assert run.stdout is not None
        first = run.stdout.readline()
        time.sleep(dice.uniform(0, 0.25))
        run.kill()
        for line in [first, *run.communicate()[0].splitlines()]:
            kind, _, number = line.partition(" ")
            if kind in seen:
                seen[kind] = max(seen[kind], int(number))
        table = Table.open(tmp_path / "t")
        assert len(table) >= seen["rows"]
        assert table.column("row").tolist() == list(range(len(table)))
        assert len(set(table.ids)) == len(table)
        assert len(table) - len(table.features_missing("f")) >= seen["features"]
    assert 0 < seen["rows"]
    assert start(script, tmp_path / "t").communicate()[0].splitlines()[-1] == "done"
    check_whole(Table.open(tmp_path / "t"))


def start(script: Path, table: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(script), str(table), str(NUM_ROWS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check_whole(table: Table) -> None:
    assert table.column("uri") == [f"u{number}" for number in range(NUM_ROWS)]
    assert [sample.image[:4] for sample in table.rows([1500, 3])] == [
        number.to_bytes(4, "big") for number in (1500, 3)
    ]
    features = table.features("f")
    assert (features.counts == 1).all()
    np.testing.assert_array_equal(features.values[:, 0], np.arange(NUM_ROWS))
