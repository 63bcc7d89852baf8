"""COCO JSON: detection, captions, and grounding with `tokens_positive`, as MDETR and GLIP read it.

In: one file {"images": [...], "annotations": [...], "categories": [...]}. Out: an `Item` for each image file.
Boxes are `[x, y, width, height]` in pixels from the top left corner. A category's name is the phrase of a
plain detection; its regions take all boxes of that category in the image. Where an image has a `caption` and
an annotation `tokens_positive`, spans of *characters* of that caption (first, one past the last), these
are the phrase; several images of one file name are one row with several captions. Boxes marked `iscrowd` are
left out: they are no single thing.
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
    image_folders,
    number,
    read_json,
    span,
)
from sensorium.data.ingest.sources.item import Failure, Item, name_of, one_line

_HEAD_BYTES = 1 << 16


def is_coco(path: Path) -> bool:
    """Whether a file is COCO's: a JSON object, not a list of rows."""
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
        root: Folder of the images; looked for beside the file if None.
        source: What the rows' source is called; the file's name without suffix if "".

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
    images, failures = _images(content["images"], path)
    yield from failures
    yield from _annotate(content, images, path)
    rows: dict[int, Annotated] = {id(one): one for _, one in images.values()}
    for one in rows.values():
        yield one.item(folders, limit, source or name_of(path.stem), f"{name_of(path)}:{name_of(one.file)}")


def _images(
    stated: Sequence[Any], path: Path
) -> tuple[dict[Any, tuple[Mapping[str, Any], Annotated]], list[Failure]]:
    """By image id, the entry and the row that it belongs to: entries of one file share a row."""
    rows: dict[str, Annotated] = {}
    found: dict[Any, tuple[Mapping[str, Any], Annotated]] = {}
    failures: list[Failure] = []
    for place, entry in enumerate(stated):
        name = entry.get("file_name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not name or not isinstance(entry.get("id"), int | str):
            failures.append(
                Failure(f"{name_of(path)}:images/{place}", "parse", "an image needs 'id' and 'file_name'")
            )
            continue
        if entry["id"] in found:
            failures.append(
                Failure(f"{name_of(path)}:images/{place}", "parse", f"id {entry['id']!r} is taken")
            )
            continue
        row = rows.setdefault(name, Annotated(name))
        if isinstance(entry.get("caption"), str):
            try:
                row.caption(entry["caption"])
            except ValueError as error:
                failures.append(Failure(f"{name_of(path)}:images/{place}", "parse", str(error)))
        found[entry["id"]] = (entry, row)
    return found, failures


def _annotate(
    content: Mapping[str, Any], images: Mapping[Any, tuple[Mapping[str, Any], Annotated]], path: Path
) -> Iterator[Failure]:
    names = {
        entry["id"]: str(entry["name"])
        for entry in entries(content, "categories", path)
        if isinstance(entry, Mapping)
        and isinstance(entry.get("id"), int | str)
        and _is_name(entry.get("name"))
    }
    for place, entry in enumerate(entries(content, "annotations", path)):
        uri = f"{name_of(path)}:annotations/{place}"
        try:
            if not isinstance(entry, Mapping) or entry.get("image_id") not in images:
                raise ValueError("an annotation needs the 'image_id' of one of the images")
            _add(entry, *images[entry["image_id"]], names)
        except (TypeError, ValueError, RecursionError) as error:
            yield Failure(uri, "parse", one_line(error))


def _is_name(value: object) -> bool:
    return isinstance(value, str | int | float)


def _add(
    entry: Mapping[str, Any], image: Mapping[str, Any], row: Annotated, names: Mapping[Any, str]
) -> None:
    if isinstance(entry.get("caption"), str) and "bbox" not in entry:
        row.caption(entry["caption"])
        return
    if entry.get("iscrowd"):
        return
    box = checked_box(entry.get("bbox"), "xywh", number(image, "width"), number(image, "height"))
    spans = entry.get("tokens_positive")
    if isinstance(spans, list) and spans and isinstance(image.get("caption"), str):
        for phrase in spans:
            row.say(image["caption"], *span(phrase), [box])
        return
    name = names.get(entry.get("category_id"))
    if name is None:
        raise ValueError(f"category_id {reprlib.repr(entry.get('category_id'))} is not among the categories")
    row.say(name, 0, len(name), [box])
