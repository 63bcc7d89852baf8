"""A table gives back what it was given, in the order asked, whatever happened to its files meanwhile."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_rows import rich_sample

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.data.table import table as table_module
from sensorium.data.table.sample import Caption, Clip, Sample, normalise
from sensorium.data.table.store import Store
from sensorium.data.table.table import Table

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=11)
blobs = st.none() | st.binary(max_size=31)
values = texts | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
contents = st.fixed_dictionaries(
    {
        "uri": texts,
        "image": blobs,
        "audio": blobs,
        "video": blobs,
        "speech": st.lists(st.tuples(texts, st.binary(max_size=7)), max_size=3),
        "texts": st.lists(st.tuples(texts, texts), max_size=3),
        "group": st.none() | texts,
        "source": texts,
        "licence": texts,
        "meta": st.dictionaries(texts, values, max_size=3),
        "phash": st.none() | st.integers(-(2**63), 2**63 - 1),
        "width_px": st.none() | st.integers(1, 2**31 - 1),
        "duration_s": st.none() | st.floats(0, 1e6),
    }
)


def sample_of(content) -> Sample:
    speech = [Clip(language, data) for language, data in content["speech"]]
    captions = [Caption(language, text) for language, text in content["texts"]]
    return Sample(**{**content, "speech": speech, "texts": captions})


@settings(max_examples=20, deadline=None)
@given(st.lists(contents, max_size=5))
def test_what_is_added_comes_back(tmp_path_factory, given_contents):
    table = Table.create(tmp_path_factory.mktemp("any") / "t")
    distinct = {sample.id: sample for sample in map(sample_of, reversed(given_contents))}
    added = list(reversed(distinct.values()))
    assert table.add(map(sample_of, given_contents)) == len(added)
    expected = [
        replace(sample, group=sample.default_group if sample.group is None else sample.group)
        for sample in added
    ]
    assert sorted(table.ids) == sorted(distinct)
    found = {sample.id: sample for sample in Table.open(table.path).rows(range(len(added)))}
    assert found == {sample.id: sample for sample in expected}


def test_rows_come_in_the_order_asked_with_repeats(rich_table):
    asked = [7, 3, 52, 7, 0]
    assert [sample.meta["number"] for sample in rich_table.rows(asked)] == asked
    only_texts = rich_table.rows(asked, columns=["texts"])
    assert [sample.texts for sample in only_texts] == [rich_sample(row).texts for row in asked]
    assert all(sample.image is None for sample in only_texts)
    assert rich_table.rows([]) == []


def test_adding_again_adds_nothing(rich_table):
    assert rich_table.add(rich_sample(number) for number in range(53)) == 0
    elsewhere = replace(rich_sample(4), uri="other/place.png", source="other")
    assert rich_table.add([elsewhere, elsewhere, rich_sample(60), rich_sample(60)]) == 1
    assert len(rich_table) == 54
    assert Table.open(rich_table.path).add([rich_sample(60)]) == 0


def test_ids_tell_contents_apart():
    def with_texts(*given: str) -> Sample:
        return Sample("u", texts=[Caption("en", text) for text in given])

    assert with_texts("ab", "c").id != with_texts("a", "bc").id
    assert Sample("u", image=b"x").id != Sample("u", audio=b"x").id
    assert Sample("u", image=b"").id != Sample("u", image=None).id
    assert Sample("u", texts=[Caption("en", "a")]).id != Sample("u", texts=[Caption("de", "a")]).id
    assert len(Sample("u").id) == 32


def test_numbers_stay_when_files_are_merged(rich_table):
    for number in range(53, 90):
        rich_table.add([rich_sample(number)])
    reader = Table.open(rich_table.path)
    rich_table.optimize()
    assert Store.open(rich_table.path / "rows.lance").num_fragments < 10
    for table in (rich_table, reader, Table.open(rich_table.path)):
        assert table.column("row").tolist() == list(range(90))
        assert [sample.uri for sample in table.rows([89, 0, 53])] == [
            "frogs/89.png",
            "frogs/0.png",
            "frogs/53.png",
        ]


def test_a_reader_outlives_the_files_it_began_with(rich_table):
    reader = Table.open(rich_table.path)
    for number in range(53, 75):
        rich_table.add([rich_sample(number)])
    store = Store.open(rich_table.path / "rows.lance")
    store.dataset.optimize.compact_files()
    from datetime import timedelta

    store.dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
    assert [sample.meta["number"] for sample in reader.rows([31, 2])] == [31, 2]


def test_batches_are_bounded_in_rows_and_bytes(monkeypatch):
    monkeypatch.setattr(table_module, "BATCH_ROWS", 5)
    monkeypatch.setattr(table_module, "BATCH_BYTES", 100)
    small = [Sample(str(number)) for number in range(13)]
    assert [len(batch) for batch in table_module.batches(small)] == [5, 5, 3]
    large = [Sample("a", image=bytes(60)), Sample("b", speech=[Clip("en", bytes(60))]), Sample("c")]
    assert [len(batch) for batch in table_module.batches(large)] == [2, 1]


def test_progress_reports_rows_that_are_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "BATCH_ROWS", 5)
    table = Table.create(tmp_path / "t")
    seen = []
    table.add(
        (rich_sample(number) for number in range(13)),
        progress=lambda done, total, message: seen.append((done, len(Table.open(table.path)))),
    )
    assert seen == [(5, 5), (10, 10), (13, 13)]


def test_a_failing_source_leaves_what_was_written_and_marks_nothing_as_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "BATCH_ROWS", 5)
    table = Table.create(tmp_path / "t")

    def failing():
        yield from (rich_sample(number) for number in range(8))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        table.add(failing())
    assert len(table) == 5
    assert table.add(rich_sample(number) for number in range(8)) == 3


def test_columns_fields_and_description(rich_table):
    assert rich_table.fields == ("image", "text", "audio", "speech")
    assert rich_table.column("width_px").tolist() == [19] * 53
    assert rich_table.column("phash")[:4].tolist() == [-1, -1, -1, -3]
    assert np.isnan(rich_table.column("duration_s")[1])
    assert rich_table.column("uri")[2] == "frogs/2.png"
    assert rich_table.column("texts")[2] == rich_sample(2).texts
    assert rich_table.rows_with("audio").tolist() == list(range(0, 53, 5))
    assert rich_table.info["licence"] == "CC0-1.0"
    assert rich_table.info["description"] == "Frogs."
    with pytest.raises(UsageError, match="no column 'nope'"):
        rich_table.column("nope")
    with pytest.raises(UsageError, match="no column 'nope'"):
        rich_table.rows([1], columns=["nope"])


def test_filters_keep_rows_by_number(rich_table):
    assert rich_table.where("has_audio AND row > 10").tolist() == list(range(15, 53, 5))
    assert rich_table.where("uri = 'nowhere'").tolist() == []
    for wrong in ("nope = 3", "row >< 3", "", "row = 'a"):
        with pytest.raises(UsageError) as error:
            rich_table.where(wrong)
        assert "\n" not in str(error.value)


def test_groups_are_captions_or_ids(rich_table):
    assert rich_table.groups[1] == "frog 0"
    assert rich_table.groups[2] == rich_table.groups[3] == "frog 1"
    assert rich_table.groups[4] == rich_table.ids[4]
    assert (
        Sample("u", texts=[Caption("de", "Frosch"), Caption("en-GB", " A FROG! ")]).default_group == "a frog"
    )
    assert normalise("犬、猫") == "犬 猫"


def test_opening_what_is_not_a_table_says_what_to_do(tmp_path, rich_table):
    with pytest.raises(NotFoundError, match="sensorium data prepare"):
        Table.open(tmp_path / "missing")
    with pytest.raises(TableError, match="not a media table"):
        Table.open(tmp_path)
    with pytest.raises(TableError, match="not empty"):
        Table.create(rich_table.path)
    with pytest.raises(NotFoundError, match="no row 53"):
        rich_table.rows([0, 53])
    with pytest.raises(NotFoundError, match="no row -1"):
        rich_table.rows([-1])


def test_a_damaged_table_is_one_line(rich_table):
    for manifest in (rich_table.path / "rows.lance" / "_versions").iterdir():
        manifest.write_bytes(b"")
    with pytest.raises(TableError, match="does not open") as error:
        Table.open(rich_table.path)
    assert "\n" not in str(error.value)


def test_a_creation_that_was_killed_can_be_repeated(tmp_path: Path):
    (tmp_path / "t" / "rows.lance" / "_versions").mkdir(parents=True)
    with pytest.raises(TableError, match="not a media table"):
        Table.open(tmp_path / "t")
    assert Table.create(tmp_path / "t").add([rich_sample(1)]) == 1


def test_a_second_writer_is_refused(rich_table, monkeypatch):
    monkeypatch.setattr("sensorium.data.table.store.LOCK_WAIT_S", 0.05)
    other = Table.open(rich_table.path)

    def while_writing():
        with pytest.raises(TableError, match="written by another process"):
            other.add([rich_sample(99)])
        yield rich_sample(61)

    assert rich_table.add(while_writing()) == 1
    assert other.add([rich_sample(99), rich_sample(61)]) == 1
    assert len(other) == 55
    assert other.column("row").tolist() == list(range(55))
