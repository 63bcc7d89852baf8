"""Common parts of the readers of phrase and box annotations (COCO, ODVG, RefCOCO, Flickr30k Entities).

Converts boxes to (x0, y0, x1, y1), checks them, collects the phrases of an image, finds its file, and makes
the `Item`. A bad box costs that annotation, not the image.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard

from sensorium.core.errors import MediaError
from sensorium.data.ingest.sources.item import Failure, Item, file_blob, inside, name_of, one_line
from sensorium.data.ingest.sources.lines import check_unicode, parse_json
from sensorium.data.table.sample import Region

Box = tuple[float, float, float, float]
Convention = Literal["xywh", "xyxy"]
MAX_FILE_BYTES = 4 * 1024**3
_SLACK_PX = 2.0
"""Annotation tools round: a box that leaves the image by at most this much is clipped."""


def checked_box(
    values: object, convention: Convention, width: float | None = None, height: float | None = None
) -> Box:
    """Convert four numbers to (x0, y0, x1, y1) inside the image.

    Args:
        values: Four numbers in pixels.
        convention: `xywh`: corner and size (COCO, RefCOCO). `xyxy`: two corners (ODVG).
        width: Width of the image, if the file states it.
        height: Height, likewise.

    Raises:
        ValueError: If it is not a box, is empty, is normalised to 0..1, or is outside the image.

    Example:
        >>> checked_box([10, 20, 30, 40], "xywh", 100.0, 100.0)
        (10.0, 20.0, 40.0, 60.0)
    """
    shown = reprlib.repr(values)
    if not isinstance(values, Sequence) or len(values) != 4 or isinstance(values, str):
        raise ValueError(f"box {shown} is not four numbers")
    try:
        a, b, c, d = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"box {shown} is not four numbers") from None
    box = (a, b, a + c, b + d) if convention == "xywh" else (a, b, c, d)
    if not all(math.isfinite(value) for value in box) or box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError(f"box {shown} has no area as {convention}")
    if width is None or height is None or width <= 1 or height <= 1:
        return box
    if max(box) <= 1.0 and min(width, height) > 2:
        raise ValueError(f"box {shown} seems to be normalised to 0..1; expected pixels as {convention}")
    if min(box[:2]) < -_SLACK_PX or box[2] > width + _SLACK_PX or box[3] > height + _SLACK_PX:
        raise ValueError(f"box {shown} leaves the image of {width:g} x {height:g} as {convention}")
    return (max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height))


@dataclass
class Annotated:
    """The annotations of one image.

    Attributes:
        file: Name of the image file, as the annotations state it.
        texts: Captions.
        spans: The boxes of each phrase, by text, start and end.
        source: The collection, if the annotations name parts of it.
    """

    file: str
    texts: list[str] = field(default_factory=list)
    spans: dict[tuple[str, int, int], list[Box]] = field(default_factory=dict)
    source: str = ""

    def add_boxes(self, text: str, start: int, end: int, boxes: Sequence[Box]) -> None:
        """Add boxes of a phrase, which may have some already.

        Raises:
            ValueError: If the phrase is not within the text, or the text is not Unicode.
        """
        check_unicode(text)
        if not 0 <= start < end <= len(text) or not text[start:end].strip():
            raise ValueError(f"phrase {start}:{end} is not within the text of {len(text)} characters")
        known = self.spans.setdefault((text, start, end), [])
        known += [box for box in boxes if box not in known]

    def add_caption(self, text: str) -> None:
        """Add a caption.

        Raises:
            ValueError: If it is not Unicode.
        """
        check_unicode(text)
        self.texts.append(text)

    def item(self, folders: Sequence[Path], root: Path, source: str, uri: str) -> Item | Failure:
        """The item of the image, searched in `folders`; it must lie inside `root`."""
        try:
            path = next((folder / self.file for folder in folders if (folder / self.file).is_file()), None)
            if path is None:
                searched = ", ".join(str(folder) for folder in folders)
                raise MediaError(f"no image {self.file} in {searched}; give its folder with --root FOLDER")
            blob = file_blob(inside(path, root))
        except (MediaError, OSError, ValueError) as error:
            return Failure(name_of(uri), "read", one_line(error))
        regions = tuple(Region(text, start, end, boxes) for (text, start, end), boxes in self.spans.items())
        texts = tuple(("", text) for text in dict.fromkeys(self.texts))
        return Item(blob.uri, (blob,), texts, None, self.source or source, regions=regions)


def image_folders(annotations: Path, root: Path | None) -> tuple[list[Path], Path]:
    """Folders to search for images, and the folder that they must lie inside."""
    base = (annotations if annotations.is_dir() else annotations.parent).resolve()
    if root is not None:
        given = root.resolve()
        return [given, *_usual_folders(given)], given
    return [base, *_usual_folders(base), *_usual_folders(base.parent)], base.parent


def find_phrase(text: str, phrase: str, after: int = 0) -> tuple[int, int]:
    """Start and end of a phrase in a text, ignoring case.

    Raises:
        ValueError: If it does not occur.
    """
    start = text.lower().find(phrase.lower().strip(), after)
    if start < 0 or not phrase.strip() or len(text.lower()) != len(text):
        raise ValueError(f"phrase {phrase[:50]!r} does not occur in {text[:100]!r}")
    return start, start + len(phrase.strip())


def number(values: Mapping[str, Any], name: str) -> float | None:
    """The value of a key as a float, or None if it is not a number."""
    value = values.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None


def span(values: object) -> tuple[int, int]:
    """Start and end of a phrase in characters.

    Raises:
        ValueError: If it is not two numbers.
    """
    if isinstance(values, list | tuple) and len(values) == 2:
        start, end = values
        if all(isinstance(one, int | float) and one == one and abs(one) < 2**31 for one in values):
            return int(start), int(end)
    raise ValueError(f"{reprlib.repr(values)} is not the start and end of a phrase")


def has_id(entry: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether an entry is an object with an `id` that is a number or a text."""
    return isinstance(entry, Mapping) and isinstance(entry.get("id"), int | str)


def entries(content: Mapping[str, Any], name: str, where: Path) -> list[Any]:
    """The list under a key; empty if the key is missing.

    Raises:
        MediaError: If the value is not a list.
    """
    found = content.get(name)
    if found is not None and not isinstance(found, list):
        raise MediaError(f"{where}: '{name}' is {type(found).__name__}; expected a list")
    return found or []


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        MediaError: If it is not one, or larger than 4 GiB.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise MediaError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes; split it")
        return parse_json(path.read_bytes())
    except MediaError:
        raise
    except (OSError, ValueError) as error:
        raise MediaError(f"{path} cannot be read as JSON: {one_line(error)}") from error


def first_line(path: Path, max_bytes: int = 1 << 20) -> Mapping[str, Any]:
    """The first line of a JSONL file as an object; empty if it is not an object."""
    try:
        with path.open("rb") as file:
            value = parse_json(file.readline(max_bytes))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _usual_folders(folder: Path) -> Iterator[Path]:
    """Usual image folders inside `folder`."""
    names = ("images", "flickr30k-images", "flickr30k_images", "train2014", "train2017", "val2014", "val2017")
    yield from (folder / name for name in names if (folder / name).is_dir())
