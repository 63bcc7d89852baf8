"""A damaged table, a full disk, texts that are no UTF-8: one error of our own, and what is whole stays."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich_rows import rich_sample

from sensorium.core.errors import SensoriumError, StorageError, TableError
from sensorium.core.files import storage_error, write_atomic
from sensorium.data.ingest.errors import ErrorLog
from sensorium.data.ingest.sources.item import Failure
from sensorium.data.table.sample import Caption, Clip, Region, Sample
from sensorium.data.table.table import Table
from sensorium.models import checkpoint


def unit(num: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((num, 7)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture
def table(rich_table: Table) -> Path:
    rich_table.add(rich_sample(number) for number in range(53, 60))
    rich_table.set_vectors("image", "f", np.arange(53), unit(53))
    rich_table.set_vectors("image", "g", np.arange(53), unit(53, 1))
    return rich_table.path


def files(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(name), key=lambda path: -path.stat().st_size)


def read_all(folder: Path) -> None:
    opened = Table.open(folder)
    assert [sample.id for sample in opened.rows(range(60))] == [rich_sample(n).id for n in range(60)]
    assert len(opened.ids) == len(opened.groups) == 60
    np.testing.assert_array_equal(opened.vectors("image", "f")[1], unit(53))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["rows.lance/data/*", "rows.lance/_versions/*.manifest", "vectors-*/data/*"])
def test_a_file_that_was_cut_is_one_table_error(table: Path, name: str, share: float) -> None:
    for path in files(table, name):
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TableError) as error:
        read_all(table)
    message = str(error.value)
    assert str(table) in message
    assert any(step in message for step in ("prepare the table again", "sensorium embed"))
    assert not any(
        noise in message for noise in ("\n", ".rs", "LanceError", "External error", "/home/runner")
    )


def test_a_missing_file_says_which_dataset_and_what_to_do(table: Path) -> None:
    for path in files(table, "vectors-image-f*/data/*"):
        path.unlink()
    with pytest.raises(TableError, match=r"vectors-image-f-.*delete that folder, then run: sensorium embed"):
        read_all(table)


def test_data_files_that_were_exchanged_are_noticed(table: Path) -> None:
    first, second = files(table, "rows.lance/data/*")
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    with pytest.raises(TableError):
        read_all(table)


def test_vectors_that_lie_under_the_name_of_others_are_refused(table: Path) -> None:
    one, other = table.glob("vectors-image-*.lance")
    shutil.rmtree(one)
    other.rename(one)
    with pytest.raises(TableError, match="has vectors of 'image:"):
        Table.open(table).fields_embedded()


def test_an_older_state_is_not_shown_as_the_newest(table: Path) -> None:
    newest = min((table / "rows.lance" / "_versions").glob("*.manifest"))
    newest.unlink()
    with pytest.raises(TableError, match="lacks its newest version 3"):
        Table.open(table)


def test_a_filter_that_fails_on_a_value_is_the_mistake_of_the_filter(rich_table: Table) -> None:
    with pytest.raises(SensoriumError) as error:
        rich_table.where("cast(uri as int) > 3")
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[" * 100_000, b'{"f": {"path": 3, "languages": 1}}'])
def test_a_ledger_of_errors_or_models_that_is_damaged_is_as_good_as_none(table: Path, damage: bytes) -> None:
    from sensorium.data.ingest.errors import read_failures
    from sensorium.search.embedding_log import read_log

    (table / "models.json").write_bytes(damage)
    (table.parent / "errors.jsonl").write_bytes(damage + b"\n")
    assert all(entry.path == "3" for entry in read_log(Table.open(table)).values())
    assert read_failures(table) == []


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from sensorium.core.errors import StorageError
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table

table = Table.open(sys.argv[1])
values = np.random.default_rng(0).standard_normal((60, 997)).astype(np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for write in (
    lambda: table.add([Sample("new", image=bytes(np.random.default_rng(0).bytes(200_000)))]),
    lambda: table.set_vectors("audio", "f", np.arange(60), values),
    lambda: table.set_features("x", np.arange(60), np.arange(61), values),
):
    try:
        write()
        print("written")
    except StorageError as error:
        print(error)
"""


def test_a_full_disk_is_one_error_and_what_was_there_stays(table: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(table)], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(str(table) in line and "cannot be written: the file would be larger" in line for line in lines)
    read_all(table)
    Table.open(table).set_vectors(
        "audio", "f", [1], np.ones((1, 997), np.float32)
    )  # what a failure left behind is no hindrance


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "no permission"), (errno.EROFS, "read-only")],
)
def test_causes_are_told_from_errors_of_python_and_of_native_code(number: int, said: str) -> None:
    for error in (
        OSError(number, os.strerror(number)),
        RuntimeError(f"LanceError(IO): x (os error {number})"),
    ):
        assert said in str(storage_error(error, Path("t")))
    assert storage_error(ValueError("anything"), Path("t")) is None


def test_files_that_cannot_be_written_are_storage_errors(
    tmp_path: Path, tiny_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="a part of its path is a file"):
        write_atomic(tmp_path / "file" / "below", "x")
    with pytest.raises(StorageError, match="it is a folder"):
        write_atomic(tmp_path, "x")
    with pytest.raises(StorageError, match="the name is too long"):
        write_atomic(tmp_path / ("x" * 300), "x")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sensorium.core.files._sync", full)
    with pytest.raises(StorageError, match=r"card\.md cannot be written: the disk is full"):
        checkpoint.save(tiny_model, tmp_path / "run")
    assert not any((tmp_path / "run").iterdir())
    monkeypatch.setattr("os.fsync", full)
    error_log = ErrorLog(tmp_path / "t.lance")
    error_log.add(Failure("a", "open", "r"))
    with pytest.raises(StorageError, match="the disk is full"):
        error_log.flush()


def test_weights_on_a_full_disk_are_a_storage_error(tmp_path: Path, tiny_run: Path) -> None:
    code = (
        "import resource, sys\n"
        "from sensorium.core.errors import StorageError\n"
        "from sensorium.models import checkpoint\n"
        "model = checkpoint.load(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: checkpoint.save(model, sys.argv[2])\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tiny_run, tmp_path / "run"], capture_output=True, text=True, check=True
    )
    assert "model.safetensors cannot be written: the file would be larger" in done.stdout
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "bad",
    [
        Sample("u", texts=[Caption("en", "lone \ud800")]),
        Sample("u", texts=[Caption("\udce9", "x")]),
        Sample("u", speech=[Clip("\udce9", b"x")]),
        Sample("u", source="\udce9"),
        Sample("u", meta={"a": "\udce9"}),
        Sample("u", width_px=2**40),
        Sample("u", phash=2**70),
        Sample("u", regions=[Region("\udce9", 0, 1)]),
    ],
    ids=repr,
)
def test_a_sample_that_no_table_can_hold_is_named_and_nothing_of_it_is_written(
    rich_table: Table, bad: Sample
) -> None:
    with pytest.raises(TableError, match=r"sample 'u'") as error:
        rich_table.add([rich_sample(99), bad])
    assert str(error.value).isprintable()
    assert len(rich_table) == len(Table.open(rich_table.path)) == 53


def test_where_a_sample_came_from_may_be_no_utf8(rich_table: Table) -> None:
    rich_table.add([Sample("caf\udce9.png", image=b"x")])
    (sample,) = Table.open(rich_table.path).rows([53])
    assert sample.uri == "caf\\udce9.png"
    assert json.loads(json.dumps(sample.uri)) == sample.uri


def test_a_table_in_a_folder_whose_name_is_no_utf8_is_refused_in_words(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.lance"))
    with pytest.raises(TableError, match="not UTF-8"):
        Table.create(folder)
