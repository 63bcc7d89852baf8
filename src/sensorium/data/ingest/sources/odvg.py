"""ODVG JSONL (the format of Grounding DINO): one image per line, with a caption's phrases or with labels.

Input: lines {"filename", "height", "width", "grounding": {"caption", "regions": [{"phrase", "bbox"}]}} or
{"filename", ..., "detection": {"instances": [{"bbox", "category"}]}}. Output: an `Item` per line. Boxes are
`[x0, y0, x1, y1]` in pixels; `bbox` may be a list of boxes. A region's `tokens_positive` (character spans)
selects the occurrence of its phrase; without it, equal phrases are the first, second, ... occurrence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sensorium.data.ingest.sources.annotation import (
    Annotated,
    Box,
    checked_box,
    find_phrase,
    first_line,
    image_folders,
    number,
    span,
)
from sensorium.data.ingest.sources.item import Failure, Item, name_of, one_line
from sensorium.data.ingest.sources.table_rows import read_rows


def is_odvg(path: Path) -> bool:
    """Whether a JSONL file is ODVG: its first line has `filename` and `grounding` or `detection`."""
    if path.suffix.lower() not in (".jsonl", ".ndjson") or not path.is_file():
        return False
    head = first_line(path)
    return "filename" in head and ("grounding" in head or "detection" in head)


def items(path: Path, *, root: Path | None = None, source: str = "") -> Iterator[Item | Failure]:
    """List the lines of an ODVG file.

    Args:
        path: The file.
        root: Folder of the images; None: searched beside the file.
        source: Name of the collection; "" uses the file's name without suffix.

    Raises:
        NotFoundError: If there is no such file.
    """
    folders, limit = image_folders(path, root)
    for row in read_rows(path):
        if isinstance(row, Failure):
            yield row
            continue
        name = row.values.get("filename")
        if not isinstance(name, str) or not name:
            yield Failure(row.uri, "parse", "the line has no 'filename'")
            continue
        one = Annotated(name)
        yield from _annotate(one, row.values, row.uri)
        yield one.item(folders, limit, source or name_of(path.stem), row.uri)


def _annotate(one: Annotated, values: Mapping[str, Any], uri: str) -> Iterator[Failure]:
    size = (number(values, "width"), number(values, "height"))
    grounding, detection = values.get("grounding"), values.get("detection")
    if isinstance(grounding, Mapping) and isinstance(grounding.get("caption"), str):
        caption = grounding["caption"]
        try:
            one.add_caption(caption)
        except ValueError as error:
            yield Failure(uri, "parse", str(error))
            return
        ends: dict[str, int] = {}
        for index, region in enumerate(_list(grounding.get("regions"))):
            try:
                _add_phrase(one, caption, region, size, ends)
            except (AttributeError, TypeError, ValueError, RecursionError) as error:
                yield Failure(f"{uri}/regions/{index}", "parse", one_line(error))
    instances = detection.get("instances") if isinstance(detection, Mapping) else None
    for index, instance in enumerate(_list(instances)):
        try:
            label = instance["category"]
            if not isinstance(label, str | int | float):
                raise ValueError(f"category is {type(label).__name__}; expected a name")
            label = str(label)
            one.add_boxes(label, 0, len(label), _boxes(instance.get("bbox"), size))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            reason = "needs 'bbox' and 'category'" if isinstance(error, KeyError) else one_line(error)
            yield Failure(f"{uri}/instances/{index}", "parse", reason)


def _add_phrase(
    one: Annotated,
    caption: str,
    region: Mapping[str, Any],
    size: tuple[float | None, float | None],
    ends: dict[str, int],
) -> None:
    boxes = _boxes(region.get("bbox"), size)
    if region.get("tokens_positive"):
        for phrase in region["tokens_positive"]:
            one.add_boxes(caption, *span(phrase), boxes)
        return
    phrases = region.get("phrase")
    for phrase in phrases if isinstance(phrases, list) else [phrases]:
        wanted = str(phrase).lower()
        start, end = find_phrase(caption, str(phrase), ends.get(wanted, 0))
        ends[wanted] = end if caption.lower().find(wanted, end) >= 0 else start
        one.add_boxes(caption, start, end, boxes)


def _list(values: object) -> list[Any]:
    """`values` if it is a list, else an empty one."""
    return values if isinstance(values, list) else []


def _boxes(values: object, size: tuple[float | None, float | None]) -> list[Box]:
    """One box, or a list of boxes."""
    is_many = isinstance(values, list) and bool(values) and isinstance(values[0], list)
    many = values if is_many and isinstance(values, list) else [values]
    return [checked_box(one, "xyxy", *size) for one in many]
