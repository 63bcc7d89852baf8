"""Clip art: 6,900 drawings of the Open Clip Art Library with titles and tags.

In: two Debian packages, one with pictures (PNG), one with the SVGs they were drawn from. Out: one sample a
picture. The title and the tags (`dc:title`, `dc:subject`) come from the SVG. Half the titles name a
collection or were copied from another file: there the words of the file's name are the caption. Tags that
only repeat the folder are dropped. Symbolic links are the same picture in a second folder, not samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
    """What an SVG says of itself.

    Attributes:
        title: As written; "" if none.
        tags: As written, in order.
        creator: Names of people.
        licence: SPDX identifier.
    """

    title: str = ""
    tags: tuple[str, ...] = ()
    creator: str = ""
    licence: str = LICENCE


def read(progress: Progress = quiet) -> Iterator[Sample]:
    """Fetch the packages where needed and yield the pictures in the order of their paths.

    Raises:
        FetchError: If a package cannot be fetched.
    """
    pictures, drawings = fetch(PICTURES, progress), fetch(DRAWINGS, progress)
    yield from read_folders(
        pictures / "usr/share/openclipart/png", drawings / "usr/share/openclipart/svg", progress
    )


def read_folders(pictures: Path, drawings: Path, progress: Progress = quiet) -> Iterator[Sample]:
    """Yield each picture below `pictures`, described by the SVG of the same name below `drawings`."""
    paths = [path for path in sorted(pictures.rglob("*.png")) if not path.is_symlink()]
    for path in track(paths, len(paths), "reading clip art", progress):
        place = path.relative_to(pictures)
        work = describe(drawings / place.with_suffix(".svg"))
        texts = captions(place, work)
        yield Sample(
            uri=f"{NAME}:{place.as_posix()}",
            image=path.read_bytes(),
            texts=[Caption("en", text) for text in texts],
            group=normalise(texts[0]),
            source=NAME,
            licence=work.licence,
            meta={"category": place.parent.as_posix(), "creator": work.creator},
        )


def describe(drawing: Path) -> Work:
    """Read an SVG's metadata, and no more of it than needed; one that does not parse says nothing."""
    try:
        for _, element in ElementTree.iterparse(drawing):
            if _local(element) == "Work":
                return _work(element)
    except (ElementTree.ParseError, OSError):
        pass
    return Work()


def captions(place: Path, work: Work) -> list[str]:
    """Captions of a picture, the main one first.

    That is its title or its file's words; then the tags that add something.

    Args:
        place: Path within the collection.
        work: What its SVG says.

    Example:
        >>> captions(Path("animals/dogs/bored_dog_01.png"), Work("Bored dog", ("dog", "animal", "sleepy")))
        ['Bored dog', 'sleepy']
        >>> captions(Path("shapes/jigsaw_blue_05.png"), Work("Clipart by N - jigsaw_red", ("shape",)))
        ['jigsaw blue']
    """
    title = " ".join(work.title.replace("_", " ").split())
    if _NOT_A_TITLE.search(title) or not normalise(title):
        title = _words(place, work.creator)
    known = {_stem(word) for part in (*place.parent.parts, title) for word in normalise(part).split()}
    added: list[str] = []
    for tag in (" ".join(tag.replace("_", " ").split()) for tag in work.tags):
        words = [_stem(word) for word in normalise(tag).split()]
        if tag and tag.lower() not in _NOT_A_TAG and not known.issuperset(words):
            added.append(tag)
            known.update(words)
    return [title, ", ".join(added)] if added else [title]


def _words(place: Path, creator: str) -> str:
    """Words of the file's name without numbers and without its maker, or else of its folder."""
    makers = normalise(creator).split()
    for name in (place.stem, *reversed(place.parent.parts)):
        words = [word.strip("0123456789") for word in re.split(r"[\W_]+", name)]
        words = [word for word in words if len(word) > 1 and word.isalpha()]
        kept = [word for word in words if not _is_maker(word.lower(), makers)]
        if kept:
            return " ".join(kept)
    return place.stem


def _is_maker(word: str, makers: Sequence[str]) -> bool:
    return len(word) > 2 and any(maker.startswith(word) for maker in makers)


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
