"""Regions: they come back as they went in, and tables from before them stay as they are."""

from pathlib import Path

import pytest

from sensorium.core.errors import TableError
from sensorium.data.table import schema
from sensorium.data.table.sample import Caption, Region, Sample
from sensorium.data.table.store import Store
from sensorium.data.table.table import ROWS, Table

REGIONS = (
    Region("a red frog on a log", 0, 10, [(3.0, 5.5, 20.0, 31.0), (1.0, 2.0, 3.0, 4.0)]),
    Region("a red frog on a log", 14, 19),
)


def sample(name: str, regions: tuple[Region, ...] = ()) -> Sample:
    return Sample(name, image=name.encode(), texts=[Caption("en", name)], regions=regions)


def older_table(path: Path) -> Table:
    """A table as sensorium made it before there were regions."""
    names = [name for name in schema.SCHEMA.names if name != "regions"]
    old = schema.with_metadata("", "").field
    fields = schema.pa.schema([old(name) for name in names], metadata=schema.with_metadata("", "").metadata)
    Store.create(path / ROWS, fields)
    return Table.open(path)


def test_regions_come_back(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t.lance")
    assert table.add([sample("a", REGIONS), sample("b")]) == 2
    again = Table.open(tmp_path / "t.lance")
    assert [row.regions for row in again.rows([0, 1])] == [REGIONS, ()]
    assert again.rows([0])[0].regions[1].phrase == "a log"
    assert [row.regions for row in again.rows([1, 0], columns=["regions"])] == [(), REGIONS]
    assert again.column("regions") == [REGIONS, ()]
    assert again.rows([0])[0].id == again.ids[0]


def test_regions_are_content_and_their_absence_changes_no_id() -> None:
    plain = sample("a")
    assert plain.id == "7db32012e9989418481837098614d5d2"  # as it was before there were regions
    others = [sample("a", REGIONS), sample("a", REGIONS[:1]), sample("a", (Region("a red frog", 0, 10),))]
    assert len({plain.id, *(other.id for other in others)}) == 4


def test_an_older_table_reads_and_grows(tmp_path: Path) -> None:
    table = older_table(tmp_path / "old.lance")
    assert table.add([sample("a"), sample("b")]) == 2
    assert [row.uri for row in table.rows([1, 0])] == ["b", "a"]
    assert [row.regions for row in table.rows([0, 1], columns=["regions"])] == [(), ()]
    assert table.column("regions") == [(), ()]
    with pytest.raises(TableError, match="older version without regions"):
        table.add([sample("c", REGIONS)])
