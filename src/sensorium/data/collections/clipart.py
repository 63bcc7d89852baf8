"""Clip art: 6,900 drawings of the Open Clip Art Library with titles and tags.

Input: two Debian packages, with images (PNG) and with the SVGs that they were rendered from. Output: one
sample per image. Title and tags (`dc:title`, `dc:subject`) come from the SVG. Half of the titles name a
collection or are copied from another file; then the caption is the words of the file name. Tags that repeat
the folder are dropped. Symbolic links are skipped: they are the same image in another folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.collections.packages import Package, fetch
from sensorium.data.table.sample import Caption, Sample, normalise

NAME = "clipart"
DESCRIPTION = "Open Clip Art Library 0.18: drawings with titles and tags"
LICENCE = "CC-PDDC"
PICTURES = Package(
    "deb",
    "openclipart-png",
    "1:0.18+dfsg-19",
    "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
    num_megabytes=131,
    keep=("usr/share/openclipart/", "usr/share/doc/"),
)
DRAWINGS = Package(
    "deb",
    "openclipart-svg",
    "1:0.18+dfsg-19",
    "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
    num_megabytes=25,
    keep=("usr/share/openclipart/", "usr/share/doc/"),
)

_NOT_A_TITLE = re.compile(
    r"^$|^part of the |^clipart by |icons?\b|iconset|theme\b|collection|^aiga|gramastar"
    r"|^various cliparts|s[iu]bmission|^svg |^map symbols$|^advertising$|^untitled|^new document"
    r"|\.svg$|^openclipart|^sallite$|^rpg map",
    re.IGNORECASE,
)
_NOT_A_TAG = frozenset({"hash", "unsorted", "special", "magick", "mapsym", "clipart", "clip art", "linex"})
_LICENCES = {"publicdomain": LICENCE, "GPL": "GPL-2.0-only"}


@dataclass(frozen=True)
class Work:
    """Metadata of an SVG: title as written ("" if none), tags in order, names of creators, SPDX licence."""

    title: str = ""
    tags: tuple[str, ...] = ()
    creator: str = ""
    licence: str = LICENCE


def read(progress: Progress = quiet) -> Iterator[Sample]:
    """Download the packages if needed and yield the images sorted by path.

    Raises:
        FetchError: If a package cannot be downloaded.
    """
    pictures, drawings = fetch(PICTURES, progress), fetch(DRAWINGS, progress)
    yield from read_folders(
        pictures / "usr/share/openclipart/png", drawings / "usr/share/openclipart/svg", progress
    )


def read_folders(pictures: Path, drawings: Path, progress: Progress = quiet) -> Iterator[Sample]:
    """Yield each image below `pictures` with the metadata of the SVG of the same name below `drawings`."""
    paths = [path for path in sorted(pictures.rglob("*.png")) if not path.is_symlink()]
    for path in track(paths, len(paths), "reading clip art", progress):
        relative = path.relative_to(pictures)
        work = describe(drawings / relative.with_suffix(".svg"))
        texts = captions(relative, work)
        yield Sample(
            uri=f"{NAME}:{relative.as_posix()}",
            image=path.read_bytes(),
            texts=[Caption("en", text) for text in texts],
            group=normalise(texts[0]),
            source=NAME,
            licence=work.licence,
            meta={"category": relative.parent.as_posix(), "creator": work.creator},
        )


def describe(drawing: Path) -> Work:
    """Read the metadata at the start of an SVG; empty if it does not parse."""
    try:
        for _, element in ElementTree.iterparse(drawing):
            if _local(element) == "Work":
                return _work(element)
    except (ElementTree.ParseError, OSError):
        pass
    return Work()


def captions(path: Path, work: Work) -> list[str]:
    """Captions of an image: its title or the words of its file name, then the tags that add words.

    Args:
        path: Path within the collection.
        work: Metadata of its SVG.

    Example:
        >>> captions(Path("animals/dogs/bored_dog_01.png"), Work("Bored dog", ("dog", "animal", "sleepy")))
        ['Bored dog', 'sleepy']
        >>> captions(Path("shapes/jigsaw_blue_05.png"), Work("Clipart by N - jigsaw_red", ("shape",)))
        ['jigsaw blue']
    """
    title = " ".join(work.title.replace("_", " ").split())
    if _NOT_A_TITLE.search(title) or not normalise(title):
        title = _words(path, work.creator)
    known = {_stem(word) for part in (*path.parent.parts, title) for word in normalise(part).split()}
    added: list[str] = []
    for tag in (" ".join(tag.replace("_", " ").split()) for tag in work.tags):
        words = [_stem(word) for word in normalise(tag).split()]
        if tag and tag.lower() not in _NOT_A_TAG and not known.issuperset(words):
            added.append(tag)
            known.update(words)
    return [title, ", ".join(added)] if added else [title]


def _words(path: Path, creator: str) -> str:
    """Words of the file name without numbers and the creator's name; if none, words of its folder."""
    creators = normalise(creator).split()
    for name in (path.stem, *reversed(path.parent.parts)):
        words = [word.strip("0123456789") for word in re.split(r"[\W_]+", name)]
        words = [word for word in words if len(word) > 1 and word.isalpha()]
        of_creator = {
            word for word in words if len(word) > 2 and any(one.startswith(word.lower()) for one in creators)
        }
        kept = [word for word in words if word not in of_creator]
        if kept:
            return " ".join(kept)
    return path.stem


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _work(element: ElementTree.Element) -> Work:
    fields = {_local(child): child for child in element}
    items = fields["subject"].iter() if "subject" in fields else ()
    return Work(
        title=_text(fields.get("title")),
        tags=tuple(_text(item) for item in items if _local(item) == "li"),
        creator=" ".join(_text(part) for part in fields["creator"].iter()) if "creator" in fields else "",
        licence=_licence(fields.get("license")),
    )


def _licence(element: ElementTree.Element | None) -> str:
    stated = " ".join(element.attrib.values()) if element is not None else ""
    return next((name for mark, name in _LICENCES.items() if mark.lower() in stated.lower()), LICENCE)


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else " ".join((element.text or "").split())
