"""What webdataset tars give, whole, cut and compressed."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.data.ingest.sources import Failure, Item
from sensorium.data.ingest.sources.webdataset import expand, items, shards_in

MEMBERS = {
    "./a/0001.jpg": b"first image",
    "./a/0001.txt": b"a frog\n",
    "./a/0001.de.txt": b"ein Frosch",
    "./a/0001.json": json.dumps({"caption": "a frog", "license": "MIT", "score": 0.5, "key": "x"}).encode(),
    "./b/0001.seg.png": b"second image",
    "./b/0001.ogg": b"second sound",
    "./b/0001.cls": b"7",
    "only.txt": b"words alone",
    ".hidden.jpg": b"no",
}


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_members_of_one_key_make_a_row(tmp_path: Path, suffix: str) -> None:
    shard = tmp_path / f"shard-000{suffix}"
    shard.write_bytes(tar(MEMBERS) if suffix == ".tar" else gzip.compress(tar(MEMBERS)))
    first, second, third = (entry for entry in items([shard]) if isinstance(entry, Item))
    assert first.texts == (("", "a frog"), ("de", "ein Frosch"))
    assert (first.licence, dict(first.meta)) == ("MIT", {"score": 0.5, "key": "a/0001"})
    assert first.source == "shard-000"
    assert [blob.read(99)[0] for blob in first.blobs] == [b"first image"]
    assert [blob.read(99)[0] for blob in second.blobs] == [b"second image", b"second sound"]
    assert (third.blobs, third.texts) == ((), (("", "words alone"),))


def test_a_cut_tar_keeps_what_was_whole_with_one_error(tmp_path: Path) -> None:
    whole = tar({f"{n:03d}.jpg": bytes([n]) * 700 for n in range(5)})
    shard = tmp_path / "s.tar"
    for cut, num_rows in ((100, 0), (512 + 700, 1), (3 * 1536 + 600, 3), (5 * 1536, 5), (len(whole), 5)):
        shard.write_bytes(whole[:cut])
        found = list(items([shard]))
        rows = [entry for entry in found if isinstance(entry, Item)]
        assert [row.blobs[0].read(999)[0] for row in rows] == [bytes([n]) * 700 for n in range(num_rows)], cut
        assert len(found) - len(rows) == (cut != len(whole)), cut


def test_a_cut_gzip_keeps_what_was_whole(tmp_path: Path) -> None:
    import random

    noise = random.Random(3)
    packed = gzip.compress(tar({f"{n:03d}.jpg": noise.randbytes(40_000) for n in range(5)}))
    shard = tmp_path / "s.tgz"
    shard.write_bytes(packed[: len(packed) * 3 // 5])
    found = list(items([shard]))
    assert 1 <= sum(isinstance(entry, Item) for entry in found) < 4
    assert sum(isinstance(entry, Failure) for entry in found) == 1


@pytest.mark.parametrize("content", [b"", b"not a tar" * 100, b"\0" * 10240])
def test_what_is_no_tar_gives_no_row(tmp_path: Path, content: bytes) -> None:
    shard = tmp_path / "s.tar"
    shard.write_bytes(content)
    found = list(items([shard]))
    assert [type(entry) for entry in found] == ([] if content.startswith(b"\0") else [Failure])


def test_patterns_name_tars(tmp_path: Path) -> None:
    for name in ("s-08.tar", "s-09.tar", "s-10.tar"):
        (tmp_path / name).write_bytes(tar({}))
    assert [path.name for path in expand(f"{tmp_path}/s-{{08..10}}.tar")] == [
        "s-08.tar",
        "s-09.tar",
        "s-10.tar",
    ]
    assert [path.name for path in expand(f"{tmp_path}/s-0*.tar")] == ["s-08.tar", "s-09.tar"]
    assert len(shards_in(tmp_path)) == 3
    with pytest.raises(NotFoundError, match=r"s-11\.tar"):
        expand(f"{tmp_path}/s-{{08..11}}.tar")
    with pytest.raises(UsageError, match="is not a range"):
        expand(f"{tmp_path}/s-{{10..08}}.tar")
    (tmp_path / "a.png").write_bytes(b"x")
    assert shards_in(tmp_path) == []


def test_members_that_are_not_utf_8_or_hold_odd_texts_cost_themselves(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    members = {
        "caf\udce9.jpg": b"one",
        "caf\udce9.txt": b"a caf\xe9",
        "b.jpg": b"two",
        "b.json": b'{"caption": "a \\ud800"}',
        "c.jpg": b"three",
        "c.json": b'{"caption": ' + b"[" * 900 + b"]" * 900 + b"}",
        "__MACOSX/._d.jpg": b"no",
        "__MACOSX/d.jpg": b"no",
        "Thumbs.db": b"no",
        "e.jpg": b"four",
        "e.txt": "déjà".encode("utf-16"),
    }
    shard.write_bytes(tar(members))
    found = list(items([shard]))
    rows = [entry for entry in found if isinstance(entry, Item)]
    assert [row.blobs[0].read(99)[0] for row in rows] == [b"one", b"two", b"three", b"four"]
    assert rows[0].uri == f"{shard}#caf%E9.jpg"
    assert rows[0].meta["key"] == "caf%E9"
    assert rows[3].texts == (("", "déjà"),)
    assert [entry.uri.partition("#")[2] for entry in found if isinstance(entry, Failure)] == [
        "caf%E9.txt",
        "b.json",
        "c.json",
    ]


def test_takeouts_archives_are_read(tmp_path: Path) -> None:
    record = {"title": "a.jpg", "description": "a cat", "photoTakenTime": {"timestamp": "1500000000"}}
    members = {
        "Takeout/Google Photos/x/a.jpg": b"one",
        "Takeout/Google Photos/x/a.jpg.supplemental-metadata.json": json.dumps(record).encode(),
        "Takeout/archive_browser.html": b"no",
    }
    shard = tmp_path / "takeout.tgz"
    shard.write_bytes(gzip.compress(tar(members)))
    (row,) = items([shard])
    assert isinstance(row, Item)
    assert row.texts == (("", "a cat"),)
