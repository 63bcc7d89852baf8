"""Folders that phones, photo libraries and downloaders write: the user's media are read, the rest is not."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from sensorium.core.errors import SensoriumError
from sensorium.data.ingest.prepare import Options, list_items
from sensorium.data.ingest.sources import Failure, Item
from sensorium.data.ingest.sources.folder import items
from sensorium.data.ingest.sources.ignored_files import pattern

WHEN = {"timestamp": "1500000000", "formatted": "Jul 14, 2017"}


def files(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def takeout(path: Path, title: str, description: str) -> None:
    said = {"title": title, "description": description, "imageViews": "3", "photoTakenTime": WHEN}
    path.write_text(json.dumps(said))


def listed(root: Path) -> tuple[dict[str, list[str]], list[Failure]]:
    """Texts by names of files, and what failed."""
    found = list(items(root))
    rows = {
        " ".join(str(Path(blob.uri).relative_to(root)) for blob in entry.blobs): [
            text for _, text in entry.texts
        ]
        for entry in found
        if isinstance(entry, Item)
    }
    return rows, [entry for entry in found if isinstance(entry, Failure)]


LONG = "a" * 47
TAKEOUT = [
    ("IMG.jpg", "IMG.jpg.json"),
    ("IMG.jpg", "IMG.jpg.supplemental-metadata.json"),
    ("PXL_20230101_123456789.jpg", "PXL_20230101_123456789.jpg.supplemental-metada.json"),
    ("IMG.jpg", "IMG.jpg.supplemental-me.json"),
    ("IMG.jpg", "IMG.jpg.suppl.json"),
    ("IMG.jpg", "IMG.jpg.s.json"),
    ("IMG.jpg", "IMG.jpg..json"),
    ("IMG(1).jpg", "IMG.jpg(1).json"),
    ("IMG(2).jpg", "IMG.jpg.supplemental-metadata(2).json"),
    ("IMG(1).jpg", "IMG(1).jpg.json"),
    ("IMG-edited.jpg", "IMG.jpg.json"),
    ("IMG-edited(1).jpg", "IMG.jpg(1).json"),
    ("IMG-bearbeitet.jpg", "IMG.jpg.supplemental-metadata.json"),
    (f"{LONG}.jpg", f"{LONG[:46]}.json"),
    ("IMG.HEIC", "IMG.HEIC.supplemental-metadata.json"),
    ("MVI.MP4", "MVI.MP4.json"),
    ("IMG", "IMG.json"),
]


@pytest.mark.parametrize(("medium", "sidecar"), TAKEOUT)
def test_takeouts_sidecars_find_their_picture(tmp_path: Path, medium: str, sidecar: str) -> None:
    files(tmp_path, medium, "other.jpg")
    takeout(tmp_path / sidecar, medium, "the cat")
    rows, failures = listed(tmp_path)
    assert (rows, failures) == ({medium: ["the cat"], "other.jpg": []}, [])
    (row,) = (entry for entry in items(tmp_path) if isinstance(entry, Item) and entry.texts)
    assert dict(row.meta) == {"title": medium, "imageViews": "3", "taken_at": "2017-07-14T02:40:00+00:00"}


def test_takeouts_copies_each_have_their_own(tmp_path: Path) -> None:
    files(tmp_path, "IMG.jpg", "IMG(1).jpg", "IMG-edited.jpg", "IMG.png", "IMG.MP4", "Thumbs.db")
    takeout(tmp_path / "IMG.jpg.json", "IMG.jpg", "plain")
    takeout(tmp_path / "IMG.jpg(1).json", "IMG.jpg", "second")
    takeout(tmp_path / "IMG.png.supplemental-metadata.json", "IMG.png", "png")
    for name in ("metadata.json", "metadata(1).json", "Métadonnées.json"):
        (tmp_path / name).write_text(json.dumps({"title": "Album", "description": "", "access": "protected"}))
    for name in ("print-subscriptions.json", "user-generated-memory-titles.json", "archive_browser.html"):
        (tmp_path / name).write_text("{}")
    rows, failures = listed(tmp_path)
    assert failures == []
    assert rows == {
        "IMG.MP4 IMG.jpg": ["plain"],
        "IMG.png": ["png"],
        "IMG(1).jpg": ["second"],
        "IMG-edited.jpg": ["plain"],
    }


def test_a_title_that_is_the_files_name_is_no_caption(tmp_path: Path) -> None:
    files(tmp_path, "a.jpg")
    (tmp_path / "a.jpg.json").write_text('{"title": "a.jpg", "description": "a cat"}')
    assert listed(tmp_path)[0] == {"a.jpg": ["a cat"]}


def test_a_sidecar_of_a_whole_name_describes_that_file_only(tmp_path: Path) -> None:
    files(tmp_path, "a.jpg", "a.png")
    (tmp_path / "a.jpg.txt").write_text("jpg")
    (tmp_path / "a.png.fr.txt").write_text("png")
    (tmp_path / "a.txt").write_text("both")
    assert listed(tmp_path)[0] == {"a.jpg": ["both", "jpg"], "a.png": ["both", "png"]}


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>
<rdf:li xml:lang="x-default">a cat &amp; a dog</rdf:li><rdf:li xml:lang="fr">un chat</rdf:li>
</rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_an_immich_library(tmp_path: Path) -> None:
    files(
        tmp_path,
        "library/me/2023/a.jpg",
        "upload/1/b.jpg",
        "thumbs/1/a-preview.jpeg",
        "encoded-video/1/a.mp4",
    )
    files(tmp_path, "profile/me.jpg", "backups/db.sql.gz", "thumbs/.immich", "library/.immich")
    (tmp_path / "library/me/2023/a.jpg.xmp").write_text(XMP)
    found = [entry for entry in items(tmp_path) if isinstance(entry, Item)]
    assert [entry.texts for entry in found] == [(("", "a cat & a dog"), ("fr", "un chat")), ()]
    assert listed(tmp_path)[1] == []


def test_a_photoprism_library(tmp_path: Path) -> None:
    files(
        tmp_path,
        "originals/2020/a.jpg",
        "originals/2020/b.jpg",
        "originals/c.jpg",
        "storage/cache/thumbs/a.jpg",
    )
    (tmp_path / "originals/2020/a.yml").write_text(
        "UID: x\nTitle: 'It''s a cat'\nCaption: |-\n  two\n  lines\nDetails:\n  Subject: no\n"
    )
    (tmp_path / "originals/2020/b.jpg.yml").write_text('Title: "a \\"dog\\""\nDescription: on\n  two lines\n')
    (tmp_path / "originals/c.yml").write_bytes(b"\xff\xff")
    rows, failures = listed(tmp_path)
    assert rows == {
        "originals/2020/a.jpg": ["It's a cat", "two\nlines"],
        "originals/2020/b.jpg": ['a "dog"', "on two lines"],
        "originals/c.jpg": [],
    }
    assert [Path(failure.uri).name for failure in failures] == ["c.yml"]


def test_what_systems_leave_is_passed_over(tmp_path: Path) -> None:
    files(
        tmp_path,
        "a.jpg",
        ".DS_Store",
        "._a.jpg",
        "__MACOSX/._a.jpg",
        "__MACOSX/b.jpg",
        "Thumbs.db",
        "ehthumbs.db",
    )
    files(
        tmp_path, "desktop.ini", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "a.AAE", "Icon\r", "$RECYCLE.BIN/x.jpg"
    )
    assert listed(tmp_path) == ({"a.jpg": []}, [])


def test_what_img2dataset_writes(tmp_path: Path) -> None:
    root = files(tmp_path / "files", "00000.parquet", "00000_stats.json", "00000/000000000.jpg")
    (root / "00000/000000000.txt").write_text("a cat")
    (root / "00000/000000000.json").write_text(
        json.dumps({"caption": "a cat", "url": "http://x", "exif": "{}"})
    )
    assert listed(root) == ({"00000/000000000.jpg": ["a cat"]}, [])
    root = files(
        tmp_path / "shards", "00000.parquet", "00000_stats.json", "00001_stats.json", "00001.parquet"
    )
    import io
    import tarfile

    for name in ("00000.tar", "00001.tar"):
        with tarfile.open(root / name, "w") as tar:
            for member, content in (("0.jpg", b"x"), ("0.txt", b"a cat")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    found = list(list_items(root, Options()))
    assert [entry.texts for entry in found if isinstance(entry, Item)] == [(("", "a cat"),)] * 2
    files(root, "mine.png")
    (failure,) = listed(root)[1]
    assert failure.uri == str(root / "{00000..00001}.tar")
    command = shlex.split(failure.reason.partition("read it with: ")[2])
    assert command[:3] == ["sensorium", "data", "prepare"]
    assert len(list(list_items(command[3], Options()))) == 2
    root = files(tmp_path / "tables", "00000.parquet", "more.csv", content=b"PAR1")
    assert ["read it with: sensorium data prepare" in failure.reason for failure in listed(root)[1]] == [
        True,
        True,
    ]
    assert listed(files(tmp_path / "odd", "a.csv", content=b"\x89PNG\r\n\x1a\n\0"))[0] == {"a.csv": []}


def test_patterns_name_tars() -> None:
    assert pattern(["s-08.tar", "s-09.tar", "s-10.tar"]) == "s-{08..10}.tar"
    assert pattern(["s-08.tar", "s-10.tar"]) == "*.tar"
    assert pattern(["9.tar", "10.tar"]) in ("*.tar", "{9..10}.tar")
    assert pattern(["a.tgz", "b.tar.gz"]) == "*.t*gz"


def test_a_file_that_vanishes_while_it_is_listed_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, "a.jpg", "b.jpg", "c.txt", "d.txt")
    from sensorium.data.ingest.sources import folder

    real = folder.file_blob

    def vanishing(path: Path) -> object:
        if path.name in ("a.jpg", "c.txt"):
            path.unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(folder, "file_blob", vanishing)
    rows, failures = listed(tmp_path)
    assert sorted(rows) == ["b.jpg", "d.txt"]
    assert [Path(failure.uri).name for failure in failures] == ["a.jpg", "c.txt"]


def test_what_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "a.jpg", "shut/b.jpg", "captions.csv", "c.jpg", "c.txt", "d.csv")
    shut = {str(tmp_path / name) for name in ("shut", "captions.csv", "c.txt", "d.csv")}

    def guarded(function: Any) -> Any:
        def asking(path: Any, *rest: Any, **options: Any) -> Any:
            if str(path) in shut:
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *rest, **options)

        return asking

    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    monkeypatch.setattr(os, "listdir", guarded(os.listdir))
    monkeypatch.setattr(os, "open", guarded(os.open))
    monkeypatch.setattr(Path, "open", guarded(Path.open))
    failures = [entry for entry in items(tmp_path) if isinstance(entry, Failure)]
    assert sorted(Path(failure.uri).name for failure in failures) == ["c.txt", "captions.csv", "shut"]
    assert all("Permission denied" in failure.reason for failure in failures)
    with pytest.raises(SensoriumError, match="Permission denied"):
        list_items(tmp_path / "shut", Options())
