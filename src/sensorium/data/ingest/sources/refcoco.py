"""RefCOCO, RefCOCO+ and RefCOCOg: referring expressions for single objects of COCO images.

Input: a folder with `refs(UNC).p` (a pickle; or `refs*.json`) and `instances.json`, as the REFER toolkit
unpacks them. Output: an `Item` per image and split; its `source` names the split (`refcoco-testA`), so that a
recipe can hold it out. Boxes are `[x, y, width, height]` in pixels. The pickle may contain only lists, dicts,
texts and numbers: classes and functions are refused.
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
    has_id,
    image_folders,
    number,
    read_json,
)
from sensorium.data.ingest.sources.item import Failure, Item, name_of, one_line
from sensorium.data.ingest.sources.lines import check_unicode


def is_refcoco(path: Path) -> bool:
    """Whether a folder has a refs file and `instances.json`."""
    return path.is_dir() and (path / "instances.json").is_file() and bool(_refs_files(path))


def items(path: Path, *, root: Path | None = None, source: str = "") -> Iterator[Item | Failure]:
    """List the images that have expressions, once for each split.

    Args:
        path: The folder; of several refs files the first by name is read.
        root: Folder of the images; None: searched beside `path`.
        source: Start of the name of the rows' source; "" uses the folder's name.

    Raises:
        MediaError: If a file cannot be read.
    """
    folders, limit = image_folders(path, root)
    refs_file = _refs_files(path)[0]
    refs = read_json(refs_file) if refs_file.suffix == ".json" else read_pickle(refs_file)
    if not isinstance(refs, Sequence):
        raise MediaError(f"{refs_file} is {type(refs).__name__}; expected a list of refs")
    boxes, files = _instances(path / "instances.json")
    rows: dict[tuple[str, str], Annotated] = {}
    for index, ref in enumerate(refs):
        try:
            _add(ref, boxes, files, rows, source or name_of(path.resolve().name))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else one_line(error)
            yield Failure(f"{name_of(refs_file)}:{index}", "parse", reason)
    for one in rows.values():
        yield one.item(folders, limit, one.source, f"{name_of(refs_file)}:{name_of(one.file)}")


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain values; refuse one that needs any class or function.

    Raises:
        MediaError: If it is damaged, or contains more than plain values.
    """
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises many types
        raise MediaError(f"{path} is not a pickle of plain values: {one_line(error)}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Refuses all classes and functions, so nothing is constructed or called."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it needs {module}.{name}")


def _refs_files(path: Path) -> list[Path]:
    return sorted([*path.glob("refs*.json"), *path.glob("refs*.p")])


def _instances(
    path: Path,
) -> tuple[dict[Any, tuple[Any, float | None, float | None]], dict[Any, str]]:
    """By annotation id the stated box and the image's size; by image id the file name."""
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise MediaError(f"{path} is not COCO JSON")
    images = {entry["id"]: entry for entry in entries(content, "images", path) if has_id(entry)}
    boxes = {}
    for entry in filter(has_id, entries(content, "annotations", path)):
        image_id = entry.get("image_id")
        image = images.get(image_id, {}) if isinstance(image_id, int | str) else {}
        boxes[entry["id"]] = (entry.get("bbox"), number(image, "width"), number(image, "height"))
    return boxes, {key: str(entry.get("file_name", "")) for key, entry in images.items()}


def _add(
    ref: Mapping[str, Any],
    boxes: Mapping[Any, tuple[Any, float | None, float | None]],
    files: Mapping[Any, str],
    rows: dict[tuple[str, str], Annotated],
    source: str,
) -> None:
    if not isinstance(ref, Mapping):
        raise ValueError(f"a ref is {type(ref).__name__}; expected an object")
    if ref["ann_id"] not in boxes:
        raise ValueError(f"ann_id {str(ref['ann_id'])[:50]} is not among the instances")
    stated, width, height = boxes[ref["ann_id"]]
    box: Box = checked_box(stated, "xywh", width, height)
    file, part = files.get(ref["image_id"], "") or str(ref["file_name"]), str(ref["split"])
    check_unicode(part)
    row = rows.setdefault((part, file), Annotated(file, source=f"{source}-{part}"))
    for sentence in ref["sentences"]:
        text = str(sentence.get("raw") or sentence["sent"]).strip()
        row.add_boxes(text, 0, len(text), [box])
