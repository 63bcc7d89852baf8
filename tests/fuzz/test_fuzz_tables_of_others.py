"""Tables, tars, sidecars and annotations that other people wrote, bent: rows, failures with a reason, or one error.

`SENSORIUM_FUZZ_EXAMPLES=N` tries N examples of each kind.
"""

# ruff: noqa: E501 (strategies)

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bounded import BoundedReader, assert_sound
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.data.ingest.prepare import Options, list_items
from sensorium.data.ingest.sources import Failure, Item
from sensorium.data.ingest.sources.lines import is_unicode

EXAMPLES = int(os.environ.get("SENSORIUM_FUZZ_EXAMPLES", "25"))
bounded = settings(
    max_examples=EXAMPLES,
    derandomize="SENSORIUM_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)

JSON_TEXT = st.sampled_from(
    ["a.png", "caption", "\ud800", "", "en", "\0", "a dog", "http://[", "data:,x", "../x"]
) | st.text(max_size=9)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(2**63), 1e308])
    | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_TEXT, inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    "image caption text title file url language licence group label photoTakenTime description images annotations "
    "categories id image_id file_name bbox width height category_id tokens_positive filename grounding detection "
    "regions phrase instances category ann_id split sentences sent raw iscrowd name".split()
)  # fmt: skip
RECORD = st.dictionaries(KEYS | JSON_TEXT, JSON, max_size=6)
CSV_TEXT = st.lists(
    st.sampled_from(['"', '""', ",", "\t", "\n", "\r\n", "\r", "\0", "\ufeff", ";", "a", "é", "caption", "image", "a.png", " "]) | st.text(max_size=3),
    max_size=60,
).map("".join)  # fmt: skip


def listing(path: Path) -> tuple[int, int]:
    """Numbers of rows and failures of a source, each of which is fit to be stored."""
    rows = failures = 0
    for entry in list_items(path, Options()):
        if isinstance(entry, Failure):
            failures += 1
            assert entry.reason.strip()
            assert "\n" not in entry.reason
            assert len(entry.reason) < 2000
        else:
            rows += 1
            assert isinstance(entry, Item)
            assert entry.blobs or entry.texts
            assert len(entry.stamp) == 24
            for text in (
                *(part for pair in entry.texts for part in pair),
                *entry.meta,
                entry.group or "",
                entry.licence,
            ):
                assert is_unicode(text), text
            json.dumps(dict(entry.meta), allow_nan=False)
    return rows, failures


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Any:
    good = tmp_path_factory.mktemp("tables") / "good.parquet"
    pq.write_table(pa.table({"caption": ["a"]}), good)
    with BoundedReader("test_fuzz_tables_of_others:listing", good) as reader:
        yield reader


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.png").write_bytes(b"x")
    return folder


def check(reader: Any, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert_sound(reader(path))


def bend(content: bytes, edits: list[tuple[int, bytes]], cut: int | None) -> bytes:
    """Bytes with some places overwritten, and cut short."""
    bent = bytearray(content)
    for place, new in edits:
        start = place % max(len(bent), 1)
        bent[start : start + len(new)] = new
    return bytes(bent if cut is None else bent[: cut % (len(bent) + 1)])


EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
)
CUT = st.none() | st.none() | st.integers(0, 1 << 20)


@bounded
@given(
    CSV_TEXT, st.sampled_from(["csv", "tsv"]), st.sampled_from(["utf-8", "utf-16", "latin-1"]), st.booleans()
)
def test_delimited(reader: Any, place: Path, text: str, suffix: str, encoding: str, has_header: bool) -> None:
    mark = "\t" if suffix == "tsv" else ","
    head = f"image{mark}caption\n" if has_header else ""
    check(reader, place / f"t.{suffix}", (head + text).encode(encoding, "replace"))


@bounded
@given(st.lists(RECORD | JSON, max_size=5), EDITS | st.just([]))
def test_jsonl(reader: Any, place: Path, rows: list[Any], edits: list[tuple[int, bytes]]) -> None:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    check(reader, place / "t.jsonl", bend(content, edits, None))
    check(reader, place / "t.json", json.dumps(rows).encode())


def table() -> pa.Table:
    return pa.table(
        {
            "caption": ["a", None, "b" * 99],
            "image": [b"x", b"y", None],
            "at": pa.array([1, None, 2**62], pa.timestamp("ns", "UTC")),
            "many": pa.array([[{"k": 1}], [], None]),
            "map": pa.array([[("en", "a")], None, []], pa.map_(pa.string(), pa.string())),
            "price": pa.array([1, 2, None]).cast(pa.decimal128(30, 2)),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        }
    )


def packed(kind: str) -> bytes:
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table(), sink, row_group_size=2)
    else:
        with (
            pa.ipc.new_file(sink, table().schema)
            if kind == "feather"
            else pa.ipc.new_stream(sink, table().schema) as file
        ):
            file.write_table(table())
    return sink.getvalue()


PACKED = {kind: packed(kind) for kind in ("parquet", "arrow", "feather")}


@bounded
@given(st.sampled_from(["parquet", "parquet", "arrow", "feather"]), EDITS, CUT, st.booleans())
def test_columns(
    reader: Any, place: Path, kind: str, edits: list[tuple[int, bytes]], cut: int | None, is_late: bool
) -> None:
    content = PACKED[kind]
    if is_late:  # metadata stand at the end
        start = len(content) * 2 // 3
        content = content[:start] + bend(content[start:], edits, None)
        check(reader, place / f"t.{kind}", content)
    else:
        check(reader, place / f"t.{kind}", bend(content, edits, cut))


def tar(kind: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as file:
        for name, content in (
            ("é" * (60 if kind != tarfile.USTAR_FORMAT else 9) + ".png", b"x"),
            ("a/b.json", b'{"caption": "a"}'),
            ("a/b.png", b"y" * 600),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if kind == tarfile.PAX_FORMAT:
                info.pax_headers = {"mtime": "1.5", "comment": "x" * 99}
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


TARS = [tar(kind) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)]


@bounded
@given(
    st.sampled_from(TARS),
    EDITS,
    CUT,
    st.booleans(),
    st.sampled_from([b"", b"%d", b"-1", b"9" * 11, b"\xff" * 12, b"\x80" + b"\xff" * 11]),
)
def test_tars(
    reader: Any,
    place: Path,
    content: bytes,
    edits: list[tuple[int, bytes]],
    cut: int | None,
    is_signed: bool,
    size: bytes,
) -> None:
    bent = bytearray(bend(content, edits, None))
    if size:
        bent[124 : 124 + len(size)] = size
    for start in range(0, len(bent), 512) if is_signed else ():
        block = bent[start : start + 512]
        if block[257:262] == b"ustar":  # a sum that fits, so that what was bent is looked at
            block[148:156] = b" " * 8
            bent[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    check(reader, place / "t.tar", bend(bytes(bent), [], cut))


NAMES = st.sampled_from(
    ["a.json", "a.jpg.json", "a.jpg.supplemental-metadata.json", "metadata.json", "a.txt", "a.fr.txt", "a.yml", "a.jpg.xmp", "captions.csv", "captions.jsonl", "00000_stats.json", "b.json"]
)  # fmt: skip
XMP = b'<x xmlns:d="http://purl.org/dc/elements/1.1/" d:title="t"><d:description>a</d:description></x>'
SIDECAR = (
    RECORD.map(lambda value: json.dumps(value).encode())
    | st.builds(
        bend,
        st.sampled_from([XMP, b'Title: "a"\nCaption: |-\n  b\n', b"file,caption\na.jpg,x\n"]),
        EDITS,
        CUT,
    )
    | st.binary(max_size=60)
)


@bounded
@given(st.dictionaries(NAMES, SIDECAR, max_size=5))
def test_sidecars(reader: Any, place: Path, files: dict[str, bytes]) -> None:
    folder = place / "folder"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / "a.jpg").write_bytes(b"x")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert_sound(reader(folder))


def near(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object like a good one with a value or two of another kind."""
    return st.builds(
        lambda changes: {**good, **changes}, st.dictionaries(st.sampled_from(sorted(good)), JSON, max_size=2)
    )


IMAGE = {"id": 7, "file_name": "a.png", "width": 60, "height": 50, "caption": "a dog"}
BOX = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "tokens_positive": [[0, 5]], "iscrowd": 0}
REGION = {"phrase": "dog", "bbox": [1, 2, 3, 4], "tokens_positive": [[2, 5]]}
REF = {"ann_id": 1, "image_id": 7, "split": "train", "file_name": "a.png", "sentences": [{"sent": "dog"}]}
LINE = {"filename": "a.png", "width": 60, "height": 50}


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy | JSON, max_size=3) | JSON


@bounded
@given(
    st.fixed_dictionaries({"images": some(near(IMAGE)), "annotations": some(near(BOX) | near({**BOX, "id": 1})), "categories": some(near({"id": 3, "name": "dog"}))}),
    st.fixed_dictionaries({"caption": st.just("a dog") | JSON, "regions": some(near(REGION))}) | JSON,
    st.fixed_dictionaries({"instances": some(near({"category": "dog", "bbox": [1, 2, 3, 4]}))}) | JSON,
    some(near(REF)),
)  # fmt: skip
def test_annotations(reader: Any, place: Path, coco: Any, grounding: Any, detection: Any, refs: Any) -> None:
    check(reader, place / "coco.json", json.dumps(coco).encode())
    lines = ({**LINE, "grounding": grounding}, {**LINE, "detection": detection})
    check(reader, place / "o.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    folder = place / "ref"
    folder.mkdir(exist_ok=True)
    (folder / "refs.json").write_text(json.dumps(refs))
    (folder / "instances.json").write_text(json.dumps(coco))
    assert_sound(reader(folder))
