"""COCO JSON: detection, captions, and grounding with `tokens_positive` as in MDETR and GLIP.

Input: one file {"images": [...], "annotations": [...], "categories": [...]}. Output: an `Item` per file.

- Boxes are `[x, y, width, height]` in pixels from the top left corner.
- The phrase of a detection is its category's name, with all boxes of that category in the image.
- `tokens_positive` has character spans (start, end) of the image's `caption`, which then are the phrases.
- Several images of one file name are one row with several captions.
- Boxes marked `iscrowd` are left out, since they are not single objects.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.core.errors import MediaError, NotFoundError
from sensorium.data.ingest.sources.annotation import (
    Annotated,
    checked_box,
    entries,
    has_id,
    image_folders,
    number,
    read_json,
    span,
)
from sensorium.data.ingest.sources.item import Failure, Item, name_of, one_line

_HEAD_BYTES = 1 << 16


def is_coco(path: Path) -> bool:
    """Whether a file contains a JSON object (not a list of rows)."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    except OSError:
        return False


def items(path: Path, *, root: Path | None = None, source: str = "") -> Iterator[Item | Failure]:
    """List the images of a COCO file.

    Args:
        path: The file.
        root: Folder of the images; None: searched beside the file.
        source: Name of the collection; "" uses the file's name without suffix.

    Raises:
        NotFoundError: If there is no such file.
        MediaError: If it is not COCO JSON.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}; give the path of a COCO JSON file")
    content = read_json(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        raise MediaError(f"{path} is not COCO JSON: it has no list 'images'")
    folders, limit = image_folders(path, root)
    images: dict[Any, tuple[Mapping[str, Any], Annotated]] = {}
    yield from _read_images(content["images"], images, name_of(path))
    yield from _annotate(content, images, path)
    rows: dict[int, Annotated] = {id(one): one for _, one in images.values()}
    for one in rows.values():
        yield one.item(folders, limit, source or name_of(path.stem), f"{name_of(path)}:{name_of(one.file)}")


def _read_images(
    entries: Sequence[Any], images: dict[Any, tuple[Mapping[str, Any], Annotated]], path: str
) -> Iterator[Failure]:
    """Fill `images`: by image id the entry and its row; entries of one file share a row."""
    rows: dict[str, Annotated] = {}
    for index, entry in enumerate(entries):
        uri = f"{path}:images/{index}"
        name = entry.get("file_name") if has_id(entry) else None
        if not isinstance(name, str) or not name:
            yield Failure(uri, "parse", "an image needs 'id' and 'file_name'")
            continue
        if entry["id"] in images:
            yield Failure(uri, "parse", f"id {entry['id']!r} occurs twice")
            continue
        row = rows.setdefault(name, Annotated(name))
        if isinstance(entry.get("caption"), str):
            try:
                row.add_caption(entry["caption"])
            except ValueError as error:
                yield Failure(uri, "parse", str(error))
        images[entry["id"]] = (entry, row)


def _annotate(
    content: Mapping[str, Any], images: Mapping[Any, tuple[Mapping[str, Any], Annotated]], path: Path
) -> Iterator[Failure]:
    names = {
        entry["id"]: str(entry["name"])
        for entry in entries(content, "categories", path)
        if has_id(entry) and isinstance(entry.get("name"), str | int | float)
    }
    for index, entry in enumerate(entries(content, "annotations", path)):
        try:
            if not isinstance(entry, Mapping) or entry.get("image_id") not in images:
                raise ValueError("an annotation needs the 'image_id' of one of the images")
            _add(entry, *images[entry["image_id"]], names)
        except (TypeError, ValueError, RecursionError) as error:
            yield Failure(f"{name_of(path)}:annotations/{index}", "parse", one_line(error))


def _add(
    entry: Mapping[str, Any], image: Mapping[str, Any], row: Annotated, names: Mapping[Any, str]
) -> None:
    if isinstance(entry.get("caption"), str) and "bbox" not in entry:
        row.add_caption(entry["caption"])
        return
    if entry.get("iscrowd"):
        return
    box = checked_box(entry.get("bbox"), "xywh", number(image, "width"), number(image, "height"))
    spans = entry.get("tokens_positive")
    if isinstance(spans, list) and spans and isinstance(image.get("caption"), str):
        for phrase in spans:
            row.add_boxes(image["caption"], *span(phrase), [box])
        return
    name = names.get(entry.get("category_id"))
    if name is None:
        raise ValueError(f"category_id {reprlib.repr(entry.get('category_id'))} is not among the categories")
    row.add_boxes(name, 0, len(name), [box])
