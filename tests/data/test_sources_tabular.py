"""What table files give, and how columns are chosen."""

import base64
import contextlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.core.errors import MediaError, NotFoundError, UsageError
from sensorium.data.ingest.sources import Failure, Item
from sensorium.data.ingest.sources.table_rows import read_rows
from sensorium.data.ingest.sources.tabular import decode_data_uri, items


def rows_of(path: Path, **options: object) -> list[Item]:
    found = list(items(path, **options))  # type: ignore[arg-type]
    assert not [entry for entry in found if isinstance(entry, Failure)]
    return [entry for entry in found if isinstance(entry, Item)]


def test_columns_are_guessed_from_usual_names(tmp_path: Path) -> None:
    for name in ("a.png", "a.wav"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "t.csv").write_text(
        "image_path,audio,caption,caption_fr,license,width\n"
        "a.png,a.wav,a frog,une grenouille,MIT,7\n,,words,,,\n"
    )
    both, words = rows_of(tmp_path / "t.csv")
    assert [(Path(blob.uri).name, blob.field) for blob in both.blobs] == [("a.png", ""), ("a.wav", "audio")]
    assert both.texts == (("", "a frog"), ("fr", "une grenouille"))
    assert (both.licence, dict(both.meta), both.source) == ("MIT", {"width": "7"}, "t")
    assert (words.blobs, words.texts) == ((), (("", "words"),))
    assert words.uri.endswith("t.csv:3")


def test_columns_are_taken_as_told(tmp_path: Path) -> None:
    for name in ("x.bin", "s.bin"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "t.tsv").write_text("k\tp\td\te\ts\tl\n9\tx.bin\tein Frosch\ta frog\ts.bin\tfrogs\n")
    columns = {"image": ["p"], "text:de": ["d"], "text": ["e"], "speech:de": ["s"], "group": ["l"]}
    (row,) = rows_of(tmp_path / "t.tsv", columns=columns)
    assert row.texts == (("de", "ein Frosch"), ("", "a frog"))
    assert [(blob.field, blob.language) for blob in row.blobs] == [("image", ""), ("speech", "de")]
    assert (row.group, dict(row.meta)) == ("frogs", {"k": "9"})


def test_lists_inline_bytes_and_data_uris(tmp_path: Path) -> None:
    inline = {"bytes": b"abc", "path": "x.png"}
    uri = "data:image/png;base64," + base64.b64encode(b"def").decode()
    table = [
        {"image": inline, "captions": ["a", "b"], "language": "en"},
        {"image": {"bytes": None, "path": uri}, "captions": [], "language": None},
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "t.parquet")
    first, second = rows_of(tmp_path / "t.parquet")
    assert (first.blobs[0].data, first.texts) == (b"abc", (("en", "a"), ("en", "b")))
    assert second.blobs[0].data == b"def"


def test_bad_lines_are_failures_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = json.dumps({"text": "good"})
    (tmp_path / "t.jsonl").write_bytes(b"{\n[1]\n\n" + good.encode() + b"\n\xff\xfe\n" + good.encode())
    found = list(items(tmp_path / "t.jsonl"))
    assert [(e.uri[-1], e.stage) for e in found if isinstance(e, Failure)] == [
        ("1", "parse"),
        ("2", "parse"),
        ("5", "parse"),
    ]
    assert [e.texts for e in found if isinstance(e, Item)] == [(("", "good"),)] * 2
    (tmp_path / "t.csv").write_bytes(b"text,k\na,1\nb,2,3\n\xff,4\nc,\0\nd,5\n,6\n")
    found = list(items(tmp_path / "t.csv"))
    assert [e.texts[0][1] for e in found if isinstance(e, Item)] == ["a", "d"]
    assert [e.uri.rpartition(":")[2] for e in found if isinstance(e, Failure)] == ["3", "4", "5", "7"]


def test_an_unclosed_quote_costs_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('text\na\n"b\nc\n')
    found = list(items(tmp_path / "t.csv"))
    assert [type(entry) for entry in found] == [Item, Failure, Item]
    assert found[1].uri.endswith("t.csv:3")


def test_paths_may_not_leave_the_folder_unless_root_allows(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    table = tmp_path / "deep" / "t.csv"
    table.write_text(f"image,caption\n../a.png,one\n{tmp_path / 'a.png'},two\n/etc/hostname,three\n")
    assert [type(entry) for entry in items(table)] == [Failure] * 3
    assert "--root" in next(entry for entry in items(table) if isinstance(entry, Failure)).reason
    absolute = list(items(table, root=tmp_path))
    assert [type(entry) for entry in absolute] == [Failure, Item, Failure]


def test_wrong_columns_are_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("picture_file,words\na,b\n")
    with pytest.raises(UsageError, match="no column has a usual name"):
        list(items(tmp_path / "t.csv"))
    with pytest.raises(UsageError, match="did you mean 'words'"):
        list(items(tmp_path / "t.csv", columns={"text": ["word"]}))
    with pytest.raises(UsageError, match="unknown role"):
        list(items(tmp_path / "t.csv", columns={"sound": ["words"]}))
    with pytest.raises(NotFoundError):
        list(items(tmp_path / "none.csv"))


def test_what_is_no_parquet_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(MediaError, match="not Parquet"):
        list(items(tmp_path / "t.parquet"))
    (tmp_path / "t.json").write_text("7")
    with pytest.raises(MediaError, match="expected a list"):
        list(items(tmp_path / "t.json"))


def test_urls_are_named_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("URL,TEXT\nhttps://example.org/a.jpg,a\n")
    (row,) = rows_of(tmp_path / "t.csv")
    assert row.blobs[0].url == row.uri == "https://example.org/a.jpg"


@given(st.lists(st.dictionaries(st.sampled_from(["text", "k", "image"]), st.text(max_size=7)), max_size=5))
def test_jsonl_reads_back_what_was_written(table: list[dict[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in table))
        assert [row.values for row in read_rows(path) if not isinstance(row, Failure)] == table


@given(st.binary(max_size=200))
def test_no_bytes_break_the_readers(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("csv", "jsonl", "tsv"):
            path = Path(folder) / f"t.{suffix}"
            path.write_bytes(content)
            with contextlib.suppress(UsageError):  # two columns of one name
                list(read_rows(path))


def test_data_uris() -> None:
    assert decode_data_uri("data:,a%20b") == b"a b"
    for bad in ("data:image/png;base64", "data:;base64,@@"):
        with pytest.raises(MediaError, match="malformed"):
            decode_data_uri(bad)
