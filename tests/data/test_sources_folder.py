"""What a folder gives: rows, captions from every place they may stand, and refusals."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sensorium.core.errors import LimitError, MediaError, NotFoundError
from sensorium.data.ingest.sources import Blob, Failure, Item
from sensorium.data.ingest.sources.folder import items
from sensorium.data.ingest.sources.item import file_blob
from sensorium.data.ingest.sources.record import merge, read_record, read_texts


def png(seed: int = 0, width: int = 7, height: int = 5) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def listed(root: Path) -> tuple[dict[str, Item], list[Failure]]:
    found = list(items(root))
    rows = {Path(entry.uri).name: entry for entry in found if isinstance(entry, Item)}
    return rows, [entry for entry in found if isinstance(entry, Failure)]


def test_captions_come_from_every_sidecar(tmp_path: Path) -> None:
    (tmp_path / "frog.png").write_bytes(png())
    (tmp_path / "frog.txt").write_text("\ufeffa frog\n\na green frog\n", encoding="utf-8")
    (tmp_path / "frog.fr.txt").write_text("une grenouille", encoding="utf-8")
    (tmp_path / "frog.png.txt").write_text("kermit", encoding="utf-8")
    record = {"caption": ["a frog", "it croaks"], "license": "CC0-1.0", "group": "frogs", "year": 1999}
    (tmp_path / "frog.json").write_text(json.dumps(record))
    rows, failures = listed(tmp_path)
    assert failures == []
    assert set(rows["frog.png"].texts) == {
        ("", "a frog"),
        ("", "a green frog"),
        ("fr", "une grenouille"),
        ("", "kermit"),
        ("", "it croaks"),
    }
    frog = rows["frog.png"]
    assert (frog.licence, frog.group, dict(frog.meta)) == ("CC0-1.0", "frogs", {"year": 1999})
    assert frog.source == tmp_path.name


def test_files_of_one_name_make_one_row_and_a_second_of_a_kind_another(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.ogg", "b.wav"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a.txt").write_text("both pictures")
    rows, _ = listed(tmp_path)
    assert sorted(tuple(Path(blob.uri).name for blob in row.blobs) for row in rows.values()) == [
        ("a.jpg", "a.ogg"),
        ("a.png",),
        ("b.wav",),
    ]
    assert rows["a.jpg"].texts == rows["a.png"].texts == (("", "both pictures"),)
    assert rows["b.wav"].texts == ()


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_caption_tables_name_files_in_folders_below(tmp_path: Path, kind: str) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.png").write_bytes(png())
    table = [
        {"file_name": "deep/er/a.png", "caption": "one, with a comma"},
        {"file_name": "deep/er/a.png", "caption": "two"},
        {"file_name": "gone.png", "caption": "three"},
    ]
    path = tmp_path / f"captions.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(table), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table) + "not json\n")
    else:
        mark = "," if kind == "csv" else "\t"
        lines = [mark.join(f'"{cell}"' for cell in row.values()) for row in table]
        path.write_text("\n".join([mark.join(table[0]), *lines]))
    rows, failures = listed(tmp_path)
    assert list(rows) == ["a.png"]
    assert rows["a.png"].texts == (("", "one, with a comma"), ("", "two"))
    assert [Path(f.uri).name for f in failures if f.stage == "read"] == ["gone.png"]
    assert [f.uri for f in failures if f.stage == "parse"] == ([f"{path}:4"] if kind == "jsonl" else [])


def test_a_captions_txt_with_a_header_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "captions.txt").write_text("image,caption\na.jpg,a dog\na.jpg,a brown dog\n")
    rows, failures = listed(tmp_path)
    assert failures == []
    assert [row.texts for row in rows.values()] == [(("", "a dog"), ("", "a brown dog"))]


def test_what_leads_outside_or_is_no_file_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(png())
    (root / "good.png").write_bytes(png())
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "within.png").symlink_to(root / "good.png")
    (root / "dangling.png").symlink_to(root / "nowhere.png")
    (root / "captions.csv").write_text("file,caption\n../outside/secret.png,stolen\n")
    os.mkfifo(root / "pipe.png")
    rows, failures = listed(root)
    assert sorted(rows) == ["good.png", "within.png"]
    assert sorted(Path(failure.uri).name for failure in failures) == [
        "captions.csv:2",
        "dangling.png",
        "folder",
        "link.png",
        "pipe.png",
    ]
    assert all("outside" in f.reason for f in failures if Path(f.uri).name in ("captions.csv:2", "folder"))


def test_hidden_files_are_passed_over_and_texts_alone_are_rows(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.png").write_bytes(png())
    (tmp_path / ".b.png").write_bytes(png())
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "poem.txt").write_text("roses are red")
    (tmp_path / "notes.json").write_text("{}")
    rows, failures = listed(tmp_path)
    assert list(rows) == ["poem.txt"]
    assert rows["poem.txt"].blobs[0].field == "text"
    assert [(Path(f.uri).name, f.stage) for f in failures] == [("notes.json", "caption")]


def test_a_broken_sidecar_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "a.txt").write_bytes("déjà".encode("latin-1"))
    (tmp_path / "a.json").write_text("{" * 100_000)
    rows, failures = listed(tmp_path)
    assert rows["a.png"].texts == ()
    assert sorted(Path(f.uri).name for f in failures) == ["a.json", "a.txt"]


def test_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        list(items(tmp_path / "none"))


def test_stamps_change_with_file_and_caption_and_not_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))

    def stamp() -> str:
        return listed(tmp_path)[0]["a.png"].stamp

    first = stamp()
    assert stamp() == first
    (tmp_path / "a.txt").write_text("a frog")
    captioned = stamp()
    os.utime(path, ns=(1, 1))
    assert len({first, captioned, stamp()}) == 3


def test_blobs_refuse_more_than_the_limit_and_what_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(97)))
    assert file_blob(path).read(97)[0] == bytes(range(97))
    assert Blob("part", path, offset=11, size=13).read(97)[0] == bytes(range(11, 24))
    with pytest.raises(LimitError, match="97 bytes"):
        file_blob(path).read(89)
    with pytest.raises(MediaError, match="ends after"):
        Blob("part", path, offset=89, size=13).read(97)


def test_a_file_just_written_is_not_trusted_by_its_times(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"1")
    listed_blob = file_blob(path)
    assert listed_blob.read(9) == (b"1", False)
    path.write_bytes(b"22")
    assert listed_blob.read(9) == (b"22", False)


def test_records_hold_texts_in_every_form() -> None:
    assert read_texts({"en": ["a", ""], "fr": "b"}) == [("en", "a"), ("fr", "b")]
    assert read_texts([{"language": "de", "text": "c"}, "d", None]) == [("de", "c"), ("", "d")]
    record = read_record({"TEXT": "x", "language": "nl", "score": float("nan"), "w": 3, "nested": [1]})
    assert (record.texts, dict(record.meta)) == ((("nl", "x"),), {"w": 3})
    both = merge([read_record({"text": "a", "k": 1}), read_record({"text": "b", "k": 2, "licence": "MIT"})])
    assert (both.texts, both.licence, dict(both.meta)) == ((("", "a"), ("", "b")), "MIT", {"k": 1})
