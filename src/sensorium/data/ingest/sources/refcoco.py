"""RefCOCO, RefCOCO+ and RefCOCOg: expressions that refer to one thing of a COCO image.

In: a folder with `refs(UNC).p` (a pickle; or the same as `refs*.json`) and `instances.json`, as the REFER
toolkit unpacks them. Out: an `Item` for each image and split, its `source` naming the split
(`refcoco-testA`), so that a recipe can hold it out. Boxes are `[x, y, width, height]` in pixels. The pickle
is read with every class and function refused: plain lists, dicts, texts and numbers are all that it needs.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.core.errors import MediaError
from sensorium.data.ingest.sources.annotation import (
    Annotated,
    Box,
    checked_box,
    entries,
    image_folders,
    number,
    read_json,
)
from sensorium.data.ingest.sources.item import Failure, Item, name_of, one_line
from sensorium.data.ingest.sources.lines import is_unicode


def is_refcoco(path: Path) -> bool:
    """Whether a folder holds refs and their instances."""
    return path.is_dir() and (path / "instances.json").is_file() and bool(_refs_files(path))


def items(path: Path, *, root: Path | None = None, source: str = "") -> Iterator[Item | Failure]:
    """List the images that are referred to, once for each split.

    Args:
        path: The folder; where it holds several refs files, the first by name is read.
        root: Folder of the images; looked for beside it if None.
        source: Begins the name of the rows' sources; the folder's name if "".

    Raises:
        MediaError: If a file cannot be read.
    """
    folders, limit = image_folders(path, root)
    place = _refs_files(path)[0]
    refs = read_json(place) if place.suffix == ".json" else read_pickle(place)
    if not isinstance(refs, Sequence):
        raise MediaError(f"{place} holds {type(refs).__name__}; expected a list of refs")
    boxes, files = _instances(path / "instances.json")
    rows: dict[tuple[str, str], Annotated] = {}
    for number_, ref in enumerate(refs):
        try:
            _add(ref, boxes, files, rows, source or name_of(path.resolve().name))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else one_line(error)
            yield Failure(f"{name_of(place)}:{number_}", "parse", reason)
    for one in rows.values():
        yield one.item(folders, limit, one.source, f"{name_of(place)}:{name_of(one.file)}")


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain values; one that asks for any class or function is refused.

    Raises:
        MediaError: If it is damaged, or holds more than plain values.
    """
    try:
        return _Plain(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle makes its reader raise whatever it likes
        raise MediaError(f"{path} is not a pickle of plain values: {one_line(error)}") from error


class _Plain(pickle.Unpickler):
    """Knows no classes: nothing can be constructed or called."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _refs_files(path: Path) -> list[Path]:
    return sorted([*path.glob("refs*.json"), *path.glob("refs*.p")])


def _instances(
    path: Path,
) -> tuple[dict[Any, tuple[Any, float | None, float | None]], dict[Any, str]]:
    """By annotation id its box as stated and the image's size; by image id the file."""
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise MediaError(f"{path} is not COCO JSON")
    images = {entry["id"]: entry for entry in entries(content, "images", path) if _has_id(entry)}
    boxes = {}
    for entry in entries(content, "annotations", path):
        if _has_id(entry):
            image = (
                images.get(entry.get("image_id")) if isinstance(entry.get("image_id"), int | str) else None
            )
            size = (number(image or {}, "width"), number(image or {}, "height"))
            boxes[entry["id"]] = (entry.get("bbox"), *size)
    return boxes, {key: str(entry.get("file_name", "")) for key, entry in images.items()}


def _has_id(entry: object) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("id"), int | str)


def _add(
    ref: Mapping[str, Any],
    boxes: Mapping[Any, tuple[Any, float | None, float | None]],
    files: Mapping[Any, str],
    rows: dict[tuple[str, str], Annotated],
    source: str,
) -> None:
    if not isinstance(ref, Mapping):
        raise ValueError(f"a ref is an object, got {type(ref).__name__}")
    if ref["ann_id"] not in boxes:
        raise ValueError(f"ann_id {str(ref['ann_id'])[:50]} is not among the instances")
    stated, width, height = boxes[ref["ann_id"]]
    box: Box = checked_box(stated, "xywh", width, height)
    file, part = files.get(ref["image_id"], "") or str(ref["file_name"]), str(ref["split"])
    if not is_unicode(part):
        raise ValueError(f"split {part[:50]!a} is not Unicode")
    row = rows.setdefault((part, file), Annotated(file, source=f"{source}-{part}"))
    for sentence in ref["sentences"]:
        text = str(sentence.get("raw") or sentence["sent"]).strip()
        row.say(text, 0, len(text), [box])
