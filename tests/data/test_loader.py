"""Every row once an epoch, in an order that workers, resuming and unreadable rows do not change."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from rich_rows import png, rich_sample

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import MediaBatch
from sensorium.data.loading.loader import Loader
from sensorium.data.loading.order import LoaderState, Order, pick
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table
from sensorium.data.transforms import AudioInput, ImageInput


@dataclass(frozen=True)
class Letters:
    """Text as its code points."""

    def __call__(self, media, rng=None) -> np.ndarray:
        return np.array([ord(letter) for letter in media.text], dtype=np.int64)


INPUTS = {"image": ImageInput(size_px=11), "text": Letters(), "speech": AudioInput(num_mels=13)}


def loader(table, rows=range(53), **options) -> Loader:
    return Loader(table, rows, INPUTS, **{"batch_size": 7, "seed": 3, **options})


def assert_equal(one: MediaBatch, other: MediaBatch) -> None:
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.groups, other.groups)
    assert one.inputs.keys() == other.inputs.keys()
    for name in one.inputs:
        assert torch.equal(one.present[name], other.present[name])
        assert torch.equal(one.inputs[name].values, other.inputs[name].values)
        assert torch.equal(one.inputs[name].mask, other.inputs[name].mask)


def test_each_row_comes_once_an_epoch(rich_table):
    loads = loader(rich_table, drop_last=False)
    assert len(loads) == 8
    first, second = (torch.cat([batch.rows for batch in loads.epoch(epoch)]).tolist() for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(53))
    assert first != second
    assert len(list(loader(rich_table).epoch(0))) == len(loader(rich_table)) == 7
    plain = loader(rich_table, shuffle=False, drop_last=False).epoch(5)
    assert torch.cat([batch.rows for batch in plain]).tolist() == list(range(53))


def test_fields_groups_and_absence(rich_table):
    batch = next(
        loader(rich_table, rows=[6, 1, 4, 2, 3], batch_size=5, shuffle=False, augment=False).epoch(0)
    )
    assert batch.rows.tolist() == [6, 1, 4, 2, 3]
    assert batch.present["image"].tolist() == [1, 2, 3]
    assert batch.present["text"].tolist() == [0, 1, 3, 4]
    assert batch.present["speech"].tolist() == [1, 2, 3]
    assert batch.inputs["image"].values.shape == (3, 3, 11, 11)
    letters = batch.inputs["text"].values[1][batch.inputs["text"].mask[1]]
    assert "".join(map(chr, letters.tolist())) == "Frog 0"
    assert batch.groups[3] == batch.groups[4]
    assert len(set(batch.groups.tolist())) == 4


def test_resumed_equals_uninterrupted(rich_table):
    whole = loader(rich_table)
    expected = [*whole, *whole, *whole]
    part = loader(rich_table)
    stream = iter(part)
    for _ in range(4):
        next(stream)
    assert part.state() == LoaderState(epoch=0, offset=4, seed=3)
    other = loader(rich_table)
    other.resume(part.state())
    for one, two in zip(expected[4:], [*other, *other, *other], strict=False):
        assert_equal(one, two)
    assert other.state() == LoaderState(epoch=3, offset=0, seed=3)
    with pytest.raises(UsageError, match="seed 4"):
        other.resume(LoaderState(0, 0, seed=4))


def test_captions_vary_with_epochs_and_languages_narrow_them(tmp_path):
    table = Table.create(tmp_path / "t")
    captions = [Caption("en", "a"), Caption("de", "b"), Caption("en", "c")]
    table.add(Sample(str(n), texts=captions, meta={}, image=bytes([n])) for n in range(101))

    def letters(**options) -> set[str]:
        loads = Loader(table, range(101), {"text": Letters()}, batch_size=101, seed=0, **options)
        return {chr(int(code)) for code in next(loads.epoch(0)).inputs["text"].values.flatten()}

    assert letters() == {"a", "b", "c"}
    assert letters(languages=["en"]) == {"a", "c"}
    assert letters(augment=False) == {"a"}
    assert letters(augment=False, languages=["de"]) == {"b"}


def test_unreadable_rows_are_left_out_and_named(tmp_path):
    table = Table.create(tmp_path / "t")
    broken = {3: b"not an image", 5: png(5)[:60]}
    table.add(Sample(str(n), image=broken.get(n, png(n))) for n in range(8))
    loads = Loader(table, range(8), {"image": ImageInput(size_px=11)}, batch_size=2, seed=0, shuffle=False)
    batches = list(loads.epoch(0))
    assert [batch.rows.tolist() for batch in batches] == [[0, 1], [2], [4], [6, 7]]
    assert sorted(loads.failures) == [3, 5]
    assert all(reason.startswith("image:") for reason in loads.failures.values())
    loads = Loader(
        table,
        [3, 5, 6],
        {"image": ImageInput(size_px=11)},
        batch_size=2,
        seed=0,
        shuffle=False,
        drop_last=False,
    )
    assert [batch.rows.tolist() for batch in loads.epoch(0)] == [[6]]
    assert loads.state() == LoaderState(1, 0, 0)


def test_several_tables_count_as_one(rich_table, tmp_path):
    other = Table.create(tmp_path / "other")
    other.add(rich_sample(number) for number in range(60, 67))
    batch = next(
        loader([rich_table, other], [59, 2, 53], batch_size=3, shuffle=False, augment=False).epoch(0)
    )
    alone = next(loader(other, [6], batch_size=1, augment=False).epoch(0))
    assert batch.rows.tolist() == [59, 2, 53]
    assert torch.equal(
        batch.inputs["text"].values[0, : alone.inputs["text"].values.shape[1]], alone.inputs["text"].values[0]
    )


def test_wrong_arguments_are_refused(rich_table):
    with pytest.raises(UsageError, match="more than the 3 rows"):
        loader(rich_table, rows=range(3))
    with pytest.raises(NotFoundError, match="no row 53"):
        loader(rich_table, rows=range(54))
    with pytest.raises(UsageError, match="no field 'picture'"):
        Loader(rich_table, [1], {"picture": ImageInput()}, batch_size=1, seed=0)
    with pytest.raises(UsageError, match="at least one field"):
        Loader(rich_table, [1], {}, batch_size=1, seed=0)


def test_choices_are_even_and_depend_on_every_number():
    rows, counts = np.arange(30_011), np.full(30_011, 3)
    chosen = pick(7, 2, rows, "text", counts)
    assert np.abs(np.bincount(chosen) / 30_011 - 1 / 3).max() < 0.01
    for other in (
        pick(8, 2, rows, "text", counts),
        pick(7, 3, rows, "text", counts),
        pick(7, 2, rows, "image", counts),
    ):
        assert abs((chosen == other).mean() - 1 / 3) < 0.01
    assert pick(7, 2, rows[::-1], "text", counts)[::-1].tolist() == chosen.tolist()
    assert pick(0, 0, rows[:5], "text", np.array([0, 1, 0, 1, 0])).tolist() == [0] * 5


def test_an_order_is_a_permutation_of_its_rows():
    order = Order(np.arange(5, 28), batch_size=4, seed=9)
    assert sorted(order.permuted(3)) == list(range(5, 28))
    assert order.permuted(3).tolist() == Order(np.arange(5, 28), batch_size=6, seed=9).permuted(3).tolist()
    assert order.permuted(3).tolist() != order.permuted(4).tolist()


@pytest.mark.parametrize("num", [7, 40, 1003])
def test_rows_of_like_size_share_a_batch(num: int) -> None:
    sizes = np.random.default_rng(0).gamma(2.0, size=num)
    rows = np.arange(100, 100 + num)
    alike, plain = Order(rows, 6, 9, sizes=sizes), Order(rows, 6, 9)
    assert sorted(alike.permuted(2)) == rows.tolist()
    assert alike.permuted(2).tolist() == Order(rows, 6, 9, sizes=sizes).permuted(2).tolist()
    assert alike.permuted(2).tolist() != alike.permuted(3).tolist()

    def padded(order: Order) -> float:
        full = order.permuted(2)[: num // 6 * 6].reshape(-1, 6) - 100
        return float(sizes[full].max(axis=1).sum() * 6)

    assert padded(alike) < 1.1 * sizes.sum() < padded(plain) or num < 100


@pytest.mark.slow
def test_workers_change_nothing(rich_table):
    expected = [*loader(rich_table).epoch(0), *loader(rich_table).epoch(1, offset=3)]
    loads = loader(rich_table, workers=2)
    abandoned = loads.epoch(7)
    next(abandoned)
    for one, two in zip(expected, [*loads.epoch(0), *loads.epoch(1, offset=3)], strict=True):
        assert_equal(one, two)
    loads.close()


@pytest.mark.slow
def test_a_dead_worker_is_an_error_within_seconds(rich_table: Table, tmp_path: Path):
    import psutil

    from sensorium.core.errors import TrainingError

    before = set(psutil.Process().children(recursive=True))
    loads = loader(rich_table, workers=2, batch_size=1)
    stream = loads.epoch(0)
    next(stream)
    workers = [
        process
        for process in set(psutil.Process().children(recursive=True)) - before
        if "forkserver" in " ".join(process.cmdline()) and process.ppid() != psutil.Process().pid
    ]
    for process in workers:
        process.kill()
    with pytest.raises(TrainingError, match="worker died"):
        list(stream)
    assert len(list(loads.epoch(0))) == 53
    loads.close()


@pytest.mark.slow
def test_workers_leave_when_their_trainer_is_killed(rich_table: Table):
    import subprocess
    import sys
    import time

    import psutil

    code = (
        "import sys, time\n"
        "from sensorium.data.transforms import ImageInput\n"
        "from sensorium.data.loading.loader import Loader\n"
        "from sensorium.data.table.table import Table\n"
        "if __name__ == '__main__':\n"
        "    table = Table.open(sys.argv[1])\n"
        "    inputs = {'image': ImageInput(size_px=16)}\n"
        "    batches = Loader(table, range(20), inputs, batch_size=2, seed=0, workers=1).epoch(0)\n"
        "    next(batches)\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = rich_table.path.parent / "trainer.py"
    script.write_text(code)
    trainer = subprocess.Popen(
        [sys.executable, str(script), str(rich_table.path)], stdout=subprocess.PIPE, text=True
    )
    assert trainer.stdout is not None
    with trainer.stdout:
        assert trainer.stdout.readline() == "ready\n"
    helpers = psutil.Process(trainer.pid).children(recursive=True)
    assert helpers
    trainer.kill()
    trainer.wait()
    while any(one.is_running() and one.status() != "zombie" for one in helpers):
        time.sleep(0.2)
