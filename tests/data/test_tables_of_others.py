"""Cells of every type, names that occur twice, stray quotes, encodings: a value or a reason."""

# ruff: noqa: E501 (tables of inputs)

import datetime
import decimal
import json
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.core.errors import MediaError, SensoriumError, UsageError
from sensorium.data.ingest.sources import Failure, Item, delimited, table_rows
from sensorium.data.ingest.sources.arrow_values import plain_values
from sensorium.data.ingest.sources.table_rows import Row, read_rows
from sensorium.data.ingest.sources.tabular import items


def cells_of(path: Path) -> list[dict[str, object] | str]:
    """Values of each row, or why there are none."""
    return [dict(row.values) if isinstance(row, Row) else row.reason for row in read_rows(path)]


def listed(path: Path, **options: object) -> tuple[list[Item], list[Failure]]:
    found = list(items(path, **options))  # type: ignore[arg-type]
    return [e for e in found if isinstance(e, Item)], [e for e in found if isinstance(e, Failure)]


def wrote(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


ARRAYS = [
    (pa.array([1700000000123456789, None], pa.timestamp("ns")), ["2023-11-14T22:13:20.123456789", None]),
    (pa.array([2**62, -1], pa.timestamp("us")), ["+148108-07-06T14:00:27.387904", "1969-12-31T23:59:59.999999"]),
    (pa.array([2**62], pa.timestamp("s")), ["+146138514283-06-19T07:45:04"]),
    (pa.array([1700000000], pa.timestamp("s", "Europe/Paris")), ["2023-11-14T22:13:20Z"]),
    (pa.array([1], pa.timestamp("ms", "No/Where")), ["1970-01-01T00:00:00.001Z"]),
    (pa.array([3, 5 * 10**9], pa.duration("ns")), [3e-9, 5]),
    (pa.array([2**31 - 1, -(2**31)], pa.date32()), ["+5881580-07-11", "-5877641-06-23"]),
    (pa.array([86_400_001], pa.date64()), ["1970-01-02"]),
    (pa.array([1], pa.time32("ms")), ["00:00:00.001"]),
    (pa.array([86_399_999_999_999], pa.time64("ns")), ["23:59:59.999999999"]),
    (pa.array([1.5, None], pa.float16()), [1.5, None]),
    (pa.array([decimal.Decimal("1.50")], pa.decimal128(38, 2)), ["1.50"]),
    (pa.array([decimal.Decimal("1E+30")], pa.decimal256(60, 0)), ["1" + 30 * "0"]),
    (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    (pa.array([None, None]), [None, None]),
    (pa.array([b"x"], pa.binary(1)), [b"x"]),
    (pa.array(["a"], pa.large_string()), ["a"]),
    (pa.array(["a"], pa.string_view()), ["a"]),
    (pa.array([b"a"], pa.binary_view()), [b"a"]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.DictionaryArray.from_arrays(pa.array([0]), pa.array([7], pa.timestamp("ns"))), ["1970-01-01T00:00:00.000000007"]),
    (pa.array([[1, None], None, []], pa.list_(pa.date32())), [["1970-01-02", None], None, []]),
    (pa.array([[1.0]], pa.large_list(pa.float16())), [[1.0]]),
    (pa.array([[1, 2], None], pa.list_view(pa.float16())), [[1.0, 2.0], None]),
    (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), [[1, 2]]),
    (pa.array([[None, [1]]], pa.list_(pa.list_(pa.date32()))), [[None, ["1970-01-02"]]]),
    (pa.array([{"a": 1}, None], pa.struct([("a", pa.timestamp("s"))])), [{"a": "1970-01-01T00:00:01"}, None]),
    (
        pa.array([[("en", "a"), ("fr", "b"), ("en", "c")], None, []], pa.map_(pa.string(), pa.string())),
        [{"en": ["a", "c"], "fr": "b"}, None, {}],
    ),
    (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16], pa.binary(16))), ["78787878-7878-7878-7878-787878787878"]),
    (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8())), [True, False]),
    (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}'])), ['{"a":1}']),
    (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), ["MonthDayNano(months=1, days=2, nanoseconds=3)"]),
    (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), ["a", "a", "b"]),
    (pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]), [1, "b"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("array", "expected"), ARRAYS, ids=lambda value: str(getattr(value, "type", ""))[:40]
)
def test_a_cell_of_any_type_is_a_plain_value(array: pa.Array, expected: list[object]) -> None:
    assert plain_values(array) == expected
    assert (
        plain_values(pa.concat_arrays([array, array]).slice(1, len(array)))
        == (expected + expected)[1:][: len(array)]
    )
    json.dumps(plain_values(array), default=bytes.hex)


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
def test_all_types_are_read_from_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    for array, expected in ARRAYS:
        table = pa.table({"caption": ["a"] * len(array), "t": array})
        try:
            if suffix == "parquet":
                pq.write_table(table, path)
            else:
                with (
                    pa.ipc.new_stream(path, table.schema)
                    if suffix == "arrow"
                    else pa.ipc.new_file(path, table.schema) as file
                ):
                    file.write_table(table)
        except pa.ArrowException:  # Parquet has no intervals, unions, views
            continue
        assert [row["t"] for row in cells_of(path)] == expected, array.type  # type: ignore[index]
        assert len(listed(path)[0]) == len(expected), array.type


def test_times_and_decimals_are_kept_with_the_row(tmp_path: Path) -> None:
    table = pa.table(
        {"caption": ["a"], "at": pa.array([7], pa.timestamp("ns")), "price": [decimal.Decimal("1.50")]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert dict(listed(tmp_path / "t.parquet")[0][0].meta) == {
        "at": "1970-01-01T00:00:00.000000007",
        "price": "1.50",
    }


@given(st.integers(-719_162, 2_932_896), st.integers(0, 86_399_999_999))
def test_time_stamps_agree_with_the_calendar(days: int, micros: int) -> None:
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(days, microseconds=micros)
    (text,) = plain_values(pa.array([days * 86_400_000_000 + micros], pa.timestamp("us")))
    assert datetime.datetime.fromisoformat(text) == when


def test_a_cell_that_cannot_be_read_costs_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["k", "k"])
    pq.write_table(pa.table({"caption": texts}), tmp_path / "t.parquet")
    good, bad = listed(tmp_path / "t.parquet")
    assert [row.texts[0][1] for row in good] == ["a", "c"]
    assert bad[0].uri.endswith("t.parquet:1")
    assert bad[0].reason.startswith("column 'caption' cannot be read")
    with pytest.raises(ValueError, match="two fields of one name"):
        plain_values(twice)


def test_a_damaged_row_group_does_not_cost_the_next(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"caption": [f"text {n}" for n in range(6)]})
    pq.write_table(table, path, row_group_size=2, compression="NONE", use_dictionary=False)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[start : start + 12] = b"\xff" * 12
    path.write_bytes(content)
    good, bad = listed(path)
    assert [row.texts[0][1] for row in good] == ["text 0", "text 1", "text 4", "text 5"]
    assert [failure.reason[:23] for failure in bad] == ["rows 2 to 3 cannot be r"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", "caption,caption\nfirst,second\n"),
        ("b.tsv", "caption\t caption\nfirst\tsecond\n"),
        ("c.csv", "\ufeffcaption,k,k\nfirst,1,2\n"),
    ):
        with pytest.raises(UsageError, match=r"2 columns '(caption|k)'"):
            list(read_rows(wrote(tmp_path / name, content)))
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["k", "k"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="2 columns 'k'"):
        list(read_rows(tmp_path / "t.parquet"))
    assert cells_of(wrote(tmp_path / "d.csv", "caption,,\na,1,2\n")) == [
        {"caption": "a", "": "1", "column 3": "2"}
    ]


def test_a_key_that_occurs_twice_costs_its_line(tmp_path: Path) -> None:
    lines = ['{"caption": "a", "caption": "b"}', '{"caption": {"en": "a", "en": "b"}}', '{"caption": "c"}']
    good, bad = listed(wrote(tmp_path / "t.jsonl", "\n".join(lines)))
    assert [row.texts for row in good] == [(("", "c"),)]
    assert ["occurs twice" in failure.reason for failure in bad] == [True, True]
    with pytest.raises(MediaError, match="occurs twice"):
        list(read_rows(wrote(tmp_path / "t.json", f"[{lines[0]}]")))


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("Image,image,caption", {"image": ["image"]}),
        ("image, Image ,caption", {"image": ["image"]}),
        ("caption,Language,language", {"language": ["language"]}),
        ("caption,licence,LICENCE", {"licence": ["licence"]}),
    ],
)
def test_names_that_differ_only_by_case_are_not_chosen_between(
    tmp_path: Path, header: str, asked: dict[str, list[str]]
) -> None:
    path = wrote(tmp_path / "t.csv", f"{header}\na,b,c\n")
    with pytest.raises(UsageError, match=r"differ only in case or spaces|2 columns"):
        list(items(path))
    if "  " not in header and ", " not in header:
        assert len(list(items(path, columns=asked))) == 1


def test_names_are_known_whatever_their_case_and_spaces(tmp_path: Path) -> None:
    pq.write_table(pa.table({"\ufeffCaption ": ["a"], " LICENCE": ["MIT"]}), tmp_path / "t.parquet")
    (row,) = listed(tmp_path / "t.parquet")[0]
    assert (row.texts, row.licence) == ((("", "a"),), "MIT")
    assert listed(wrote(tmp_path / "t.csv", "Caption,caption\na,b\n"))[0][0].texts == (("", "a"), ("", "b"))


def test_rows_of_jsonl_may_differ_in_their_keys(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    lines = [
        {"caption": "one"},
        {"image": "a.png", "title": "two"},
        {"Image": "a.png", "image": "a.png"},
        {"z": 1},
    ]
    path = wrote(tmp_path / "t.jsonl", "\n".join(map(json.dumps, lines)))
    good, bad = listed(path)
    assert [(row.texts, len(row.blobs)) for row in good] == [((("", "one"),), 0), ((("", "two"),), 1)]
    assert ["differ only" in bad[0].reason, "neither" in bad[1].reason] == [True, True]
    good, bad = listed(path, columns={"text": ["title"]})
    assert [row.texts for row in good] == [(("", "two"),)]


QUOTES = [
    ("csv", 'f,t\na,"open\nb,"x, y"\nc,z\n', ["x, y", "z"], [2]),
    ("csv", 'f,t\na,"open\nb,c\n', ["c"], [2]),
    ("csv", 'f,t\na,"say "hi" now"\nb,c\n', ["c"], [2]),
    ("csv", 'f,t\na,"open\nb,"", c\nd,e\n', ["e"], [2, 3]),
    ("csv", 'f,t\na,5" disk\nb,c\n', ['5" disk', "c"], []),
    ("csv", 'f,t\na,"two\nlines, one"\nb,c\n', ["two\nlines, one", "c"], []),
    ("csv", 'f,t\na,"two ""quoted""\nlines"\nb,c\n', ['two "quoted"\nlines', "c"], []),
    ("csv", 'f,"t\na,x\nb,y\n', ["x", "y"], []),
    ("csv", 'f,t\na,"wow\n' + "".join(f"{n},x{n}\n" for n in range(9)) + 'z,ends"\n', [*(f"x{n}" for n in range(9)), 'ends"'], [2]),
    ("tsv", 'f\tt\na\t"open\nb\tc\n', ['"open', "c"], []),
    ("tsv", 'f\tt\na\t"Hi" she said\nb\tc\n', ['"Hi" she said', "c"], []),
    ("tsv", 'f\tt\na\t"wow\n' + "".join(f"{n}\tx{n}\n" for n in range(9)) + 'z\tends"\n', ['"wow', *(f"x{n}" for n in range(9)), 'ends"'], []),
    ("tsv", 'f\tt\na\t"two\nlines"\nb\t"c"\n', ["two\nlines", "c"], []),
    ("csv", 'f,t\na,b,,\nc,d,e\n', ["b"], [3]),
    ("csv", "f,t\na,b\rc,d\r\ne,f\n\n\ng,h", ["b", "d", "f", "h"], []),
    ("csv", "\n\n f , t \na,b\n", ["b"], []),
    ("csv", "sep=;\nf;t\na;b,c\n", ["b,c"], []),
    ("csv", "f,t\na,\0\nb,c\n", ["c"], [2]),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "content", "texts", "bad"), QUOTES)
def test_a_stray_quote_costs_no_other_row(
    tmp_path: Path, suffix: str, content: str, texts: list[str], bad: list[int]
) -> None:
    found = list(read_rows(wrote(tmp_path / f"t.{suffix}", content)))
    assert [row.values["t"] for row in found if isinstance(row, Row)] == texts
    assert [int(row.uri.rpartition(":")[2]) for row in found if isinstance(row, Failure)] == bad


@given(
    st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=9)] * 2), max_size=6),
    st.sampled_from(["csv", "tsv"]),
)  # fmt: skip
def test_what_a_writer_of_csv_writes_is_read_back(table: list[tuple[str, str]], suffix: str) -> None:
    import csv
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{suffix}"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if suffix == "tsv" else ",", quoting=csv.QUOTE_ALL)
            writer.writerows([("f", "t"), *table])
        assert cells_of(path) == [{"f": first, "t": second} for first, second in table]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_encodings_that_tell_themselves_are_read(tmp_path: Path, encoding: str, suffix: str) -> None:
    mark = {"csv": ",", "tsv": "\t"}.get(suffix, "")
    lines = [f"file{mark}caption", f"a{mark}déjà \ufffd vu 蛙"] if mark else [json.dumps({"file": "a", "caption": "déjà \ufffd vu 蛙"}, ensure_ascii=False)]  # fmt: skip
    path = wrote(tmp_path / f"t.{suffix}", "\r\n".join(lines).encode(encoding))
    assert cells_of(path) == [{"file": "a", "caption": "déjà \ufffd vu 蛙"}]


def test_latin_1_costs_the_rows_that_need_it(tmp_path: Path) -> None:
    found = cells_of(wrote(tmp_path / "t.csv", "caption,größe\nplain,1\ndéjà,2\nlast,3\n".encode("latin-1")))
    assert [isinstance(row, dict) and row["caption"] for row in found] == ["plain", False, "last"]
    assert "save the table as UTF-8" in str(found[1])
    assert "inside a character" in str(
        cells_of(wrote(tmp_path / "u.csv", "a\nb".encode("utf-16") + b"x"))[-1]
    )


def test_endless_cells_and_lines_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MAX_CELL_CHARS", 97)
    monkeypatch.setattr(table_rows, "MAX_LINE_CHARS", 97)
    found = cells_of(wrote(tmp_path / "t.csv", f"t\na\n{'x' * 1009}\nb\n{'x' * 97}\n"))
    assert [row["t"][:1] if isinstance(row, dict) else row[:7] for row in found] == ["a", "not CSV", "b", "x"]  # type: ignore[index]
    found = cells_of(wrote(tmp_path / "t.jsonl", '{"t": 1}\n{"t": "' + "x" * 1009 + '"}\n{"t": 2}\n'))
    assert found == [{"t": 1}, "the line has more than 97 characters", {"t": 2}]


def test_texts_in_every_kind_of_cell(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    rows = [
        ({"caption": 1984}, (("", "1984"),)),
        ({"caption": 10**400}, (("", str(10**400)),)),
        ({"caption": "a", "title": 1e999}, (("", "a"),)),
        ({"caption": {"caption": "a", "fr": "b"}}, (("", "a"), ("fr", "b"))),
        ({"caption": [["a"], None, ["b"]]}, (("", "a"), ("", "b"))),
        ({"caption": "a", "language": ["en"]}, (("", "a"),)),
    ]
    for values, texts in rows:
        (row,) = listed(wrote(tmp_path / "t.jsonl", json.dumps(values)))[0]
        assert row.texts == texts
    (row,) = listed(wrote(tmp_path / "t.jsonl", '{"image": "a.png", "label": 3}'))[0]
    assert (row.texts, dict(row.meta)) == ((), {"label": 3})
    (row,) = listed(tmp_path / "t.jsonl", columns={"text": ["label"]})[0]
    assert row.texts == (("", "3"),)


def test_texts_and_paths_that_were_written_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    table = pa.table(
        {"image": [b"a.png", b"\x89PNG", b"data:,abc"], "caption": ["dé".encode(), b"b", b"\xff"]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    good, bad = listed(tmp_path / "t.parquet")
    assert [(row.blobs[0].read(9)[0], row.texts) for row in good] == [
        (b"x", (("", "dé"),)),
        (b"\x89PNG", (("", "b"),)),
    ]
    assert bad[0].uri.endswith(":2")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("s3://bucket/a.png", "scheme 's3'"),
        ("file://elsewhere/a.png", "scheme 'file'"),
        ("data:image/png;base64,@@", "malformed data URI"),
        ("DATA:nothing", "malformed data URI"),
        (".", "not a regular file"),
        ("a\0.png", "null"),
        ("x" * 5000, "name too long"),
        ("gone.png", "No such file"),
        ("\ud800.png", "surrogate"),
        ([1, 2], "expected a path"),
        (7, "expected a path"),
    ],
)
def test_a_medium_that_cannot_be_named_costs_its_row(tmp_path: Path, value: object, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    lines = [{"image": "a.png"}, {"image": value}, {"image": (tmp_path / "a.png").as_uri()}]
    good, bad = listed(wrote(tmp_path / "t.jsonl", "\n".join(map(json.dumps, lines))))
    assert len(good) == 2
    assert reason.lower() in bad[0].reason.lower()


@pytest.mark.parametrize(
    "line",
    [
        '{"caption": "a \\ud800 b"}',
        '{"caption": "a", "\\udfff": 1}',
        '{"caption": "a", "k": "\\ud800"}',
        '{"caption": "a", "group": "\\ud800"}',
        '{"caption": {"\\ud800": "a"}}',
        '{"caption": ' + "[" * 900 + '"a"' + "]" * 900 + "}",
        '{"caption": ' + '{"en":' * 900 + '"a"' + "}" * 901,
        '{"caption": "a", "licence": ' + "[" * 900 + "]" * 900 + "}",
        '{"caption": ' + "[" * 100_000,
        '{"caption": ' + "9" * 5000 + "}",
        "[]",
        "nul",
        '"text"',
    ],
)
def test_a_hostile_line_is_one_failure(tmp_path: Path, line: str) -> None:
    path = wrote(tmp_path / "t.jsonl", f'{{"caption": "first"}}\n{line}\n{{"caption": "last"}}\n')
    good, bad = listed(path)
    if '"licence"' not in line or bad:
        assert [failure.uri for failure in bad] == [f"{path}:2"]
        assert bad[0].reason
        assert "\n" not in bad[0].reason
    assert [row.texts[0][1] for row in good if row.texts[0][1] != "a"] == ["first", "last"]


def test_what_cannot_be_read_at_all_is_one_error(tmp_path: Path) -> None:
    for suffix in ("parquet", "arrow", "json"):
        for content in (b"", b"ARROW1\0\0", b"PAR1" * 9, b"\xff\xff\xff\xff\x7f\xff\xff\xff", b"\xff\xfe\0"):
            with pytest.raises(SensoriumError) as caught:
                list(read_rows(wrote(tmp_path / f"t.{suffix}", content)))
            assert "\n" not in str(caught.value)


def test_places_outside_the_data_of_an_arrow_file_are_refused(tmp_path: Path) -> None:
    table = pa.table({"caption": ["a", "b"], "t": pa.array([[1], [2]], pa.list_(pa.date32()))})
    with pa.ipc.new_stream(tmp_path / "t.arrow", table.schema) as file:
        file.write_table(table)
    content = (tmp_path / "t.arrow").read_bytes()
    bent = content.replace(struct.pack("<3i", 0, 1, 2), struct.pack("<3i", 0, 77_777, 77_778))
    assert bent != content
    found = list(read_rows(wrote(tmp_path / "t.arrow", bent)))
    assert [type(row) for row in found] == [Failure]


def test_a_text_of_an_arrow_file_that_is_not_utf_8_costs_its_row(tmp_path: Path) -> None:
    table = pa.table({"caption": pa.array([b"a", b"\xff", b"c"]).view(pa.string())})
    with pa.ipc.new_file(tmp_path / "t.feather", table.schema) as file:
        file.write_table(table)
    assert [isinstance(row, Row) for row in read_rows(tmp_path / "t.feather")] == [True, False, True]


@pytest.mark.parametrize("name", ["a\nb", "\ud800", "x" * 9000])
def test_odd_names_of_columns_are_told_in_one_line(tmp_path: Path, name: str) -> None:
    path = wrote(tmp_path / "t.jsonl", json.dumps({name: None}))
    for asked in ({}, {"text": ["caption"]}):
        with pytest.raises(UsageError) as caught:
            list(items(path, columns=asked))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value).encode()) < 2000


def test_tables_whose_own_name_is_not_utf_8_are_read(tmp_path: Path) -> None:
    for suffix in ("parquet", "arrow", "csv", "jsonl", "json"):
        path = tmp_path / f"caf\udce9.{suffix}"
        if suffix == "parquet":
            with path.open("wb") as sink:
                pq.write_table(pa.table({"caption": ["a"]}), sink)
        elif suffix == "arrow":
            with (
                path.open("wb") as sink,
                pa.ipc.new_stream(sink, pa.schema({"caption": pa.string()})) as file,
            ):
                file.write_table(pa.table({"caption": ["a"]}))
        else:
            lines = {"csv": "caption\na\n", "jsonl": '{"caption": "a"}', "json": '[{"caption": "a"}]'}
            wrote(path, lines[suffix])
        (row,) = listed(path)[0]
        assert row.uri.startswith(f"file://{tmp_path}/caf%E9.{suffix}:")
        assert row.source == "caf%E9"
