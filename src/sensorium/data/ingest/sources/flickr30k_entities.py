"""Flickr30k Entities: photographs with five captions, their noun phrases, and the boxes of the phrases.

Input: a folder with `Sentences/NNN.txt`, in which phrases are marked as `[/EN#ID/type Two young guys]`, and
`Annotations/NNN.xml`, whose objects have such IDs and a `bndbox`. Output: an `Item` per photograph.
A `bndbox` is (xmin, ymin, xmax, ymax) in inclusive pixels from 1, i.e. the box (xmin - 1, ymin - 1, xmax,
ymax). Phrases with ID 0 or without a box (`nobndbox`, `scene`) give no region: the object is not absent.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from sensorium.core.errors import MediaError
from sensorium.data.ingest.sources.annotation import Annotated, Box, checked_box, image_folders
from sensorium.data.ingest.sources.item import Failure, Item, file_blob, name_of, one_line

_MARK = re.compile(r"\[/EN#(?P<id>\d+)(?:/[^\s\]]*)?\s+(?P<phrase>[^\]]*)\]")
_MAX_BYTES = 16 * 1024 * 1024


def is_entities(path: Path) -> bool:
    """Whether a folder has this layout."""
    return (path / "Sentences").is_dir() and (path / "Annotations").is_dir()


def items(path: Path, *, root: Path | None = None, source: str = "") -> Iterator[Item | Failure]:
    """List the photographs.

    Args:
        path: The folder.
        root: Folder of the photographs; None: searched in `path`, `flickr30k-images` and `images`.
        source: Name of the collection; "" uses the folder's name.
    """
    folders, limit = image_folders(path, root)
    for sentences in sorted((path / "Sentences").glob("*.txt")):
        one = Annotated(f"{sentences.stem}.jpg")
        try:
            boxes = read_boxes(path / "Annotations" / f"{sentences.stem}.xml")
            _annotate(one, _read(sentences), boxes)
        except (MediaError, ValueError, LookupError, ElementTree.ParseError) as error:
            yield Failure(name_of(sentences), "parse", one_line(error))
            continue
        yield one.item(folders, limit, source or name_of(path.resolve().name), name_of(sentences))


def read_sentence(line: str) -> tuple[str, list[tuple[int, int, str]]]:
    """Parse a marked sentence.

    Returns:
        The sentence without marks, and (start, end, ID) of each phrase.

    Example:
        >>> read_sentence("[/EN#1/people A man] in [/EN#2/clothing a hat] .")
        ('A man in a hat .', [(0, 5, '1'), (9, 14, '2')])
    """
    text, phrases, end = "", [], 0
    for mark in _MARK.finditer(line):
        text += line[end : mark.start()]
        phrases.append((len(text), len(text) + len(mark["phrase"]), mark["id"]))
        text += mark["phrase"]
        end = mark.end()
    return text + line[end:], phrases


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Boxes by ID.

    Raises:
        MediaError: If the file cannot be read.
        ParseError: If it is not XML.
        ValueError: If a box is invalid.
    """
    top = ElementTree.fromstring(_read(path))
    size = [float(top.findtext(f"size/{name}") or 0) or None for name in ("width", "height")]
    found: dict[str, list[Box]] = {}
    for thing in top.iter("object"):
        box = thing.find("bndbox")
        if box is None:
            continue
        ends = [float(box.findtext(name) or "nan") for name in ("xmin", "ymin", "xmax", "ymax")]
        checked = checked_box([ends[0] - 1, ends[1] - 1, ends[2], ends[3]], "xyxy", *size)
        for name in thing.findall("name"):
            found.setdefault((name.text or "").strip(), []).append(checked)
    return found


def _annotate(one: Annotated, content: str, boxes: dict[str, list[Box]]) -> None:
    for line in content.splitlines():
        text, phrases = read_sentence(line.strip())
        if not text:
            continue
        one.add_caption(text)
        for start, end, name in phrases:
            if name in boxes and end > start:
                one.add_boxes(text, start, end, boxes[name])


def _read(path: Path) -> str:
    data, _ = file_blob(path).read(_MAX_BYTES)
    return data.decode("utf-8-sig")
