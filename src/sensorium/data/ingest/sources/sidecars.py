"""Sidecar files: matches the files that describe media to their media, and reads them.

Input: the names of a folder's files. Output: the sidecars of each medium, and the `Record` of each. Those of
`frog.png` are `frog.txt`, `frog.fr.txt`, `frog.json`, the same after the whole name (`frog.png.json`), XMP
(Lightroom, immich), PhotoPrism's YAML, and Google Takeout's JSON under these names:

- `IMG.jpg.json` or `IMG.jpg.supplemental-metadata.json`, cut to 46 characters before the `.json`;
- `IMG.jpg(1).json` or `IMG.jpg.supplemental-metadata(1).json` for `IMG(1).jpg`;
- the file of `IMG.jpg` also for `IMG-edited.jpg`, which has none of its own.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sensorium.core.errors import MediaError
from sensorium.data.ingest.sources.item import Failure, file_blob, name_of, one_line
from sensorium.data.ingest.sources.lines import decode, parse_json
from sensorium.data.ingest.sources.record import Record, is_language, read_record

TEXT_SUFFIXES = frozenset({".txt", ".md"})
RECORD_SUFFIXES = frozenset({".json", ".xmp", ".yml", ".yaml"})
SUFFIXES = TEXT_SUFFIXES | RECORD_SUFFIXES
MAX_SIDECAR_BYTES = 16 * 1024 * 1024

_TAKEOUT = "supplemental-metadata"
_TAKEOUT_CHARS = 46
_EDITED = "-edited -bearbeitet -modifié -editado -editada -modificato -bewerkt -edytowane".split()
_COUNTED = re.compile(r"(.*)(\(\d+\))", re.DOTALL)
_DC = "{http://purl.org/dc/elements/1.1/}"
_LI = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_YAML = re.compile(r"(Title|Caption|Description):(?:[ ]+(.*))?")


@dataclass
class Sidecars:
    """Sidecars of the media of one folder, each with the language in its name or "".

    Attributes:
        of_stem: By stem; they describe every medium of that stem.
        of_name: By whole file name.
        orphans: Files that describe no medium of this folder.
    """

    of_stem: dict[str, list[tuple[Path, str]]] = field(default_factory=lambda: defaultdict(list))
    of_name: dict[str, list[tuple[Path, str]]] = field(default_factory=lambda: defaultdict(list))
    orphans: list[Path] = field(default_factory=list)

    def of(self, row: Sequence[Path]) -> list[tuple[Path, str]]:
        """Sidecars of the media of one row; those with a language come last."""
        found = [*self.of_stem.get(row[0].stem, ())]
        for path in row if self.of_name else ():
            found += [entry for entry in self.of_name.get(path.name, ()) if entry not in found]
        return sorted(found, key=lambda entry: bool(entry[1]))


def match(sidecars: Sequence[Path], media: Sequence[Path]) -> Sidecars:
    """Match sidecars to media by name."""
    names, stems = {path.name for path in media}, {path.stem for path in media}
    all_names = names | stems
    cut = {name[:_TAKEOUT_CHARS]: name for name in names if len(name) > _TAKEOUT_CHARS}
    found = Sidecars()
    for path in sidecars:
        target, suffix = path.stem, path.suffix.lower()
        base, _, tag = target.rpartition(".")
        if target in names and target not in stems:
            found.of_name[target].append((path, ""))
        elif target in stems:
            found.of_stem[target].append((path, ""))
        elif suffix in TEXT_SUFFIXES and is_language(tag) and base in all_names:
            (found.of_stem if base in stems else found.of_name)[base].append((path, tag))
        elif suffix == ".json" and (owners := _of_takeout(target, names, cut)):
            for name in owners:
                found.of_name[name].append((path, ""))
        else:
            found.orphans.append(path)
    for name in names if found.of_name else ():
        original = _unedited(name) if "-" in name else ""
        if original and name not in found.of_name:
            shared = found.of_name.get(original, ())
            found.of_name[name].extend(entry for entry in shared if entry[0].suffix.lower() == ".json")
    return found


def read(path: Path, language: str) -> Record | Failure:
    """The record of a sidecar, or a failure if it cannot be read."""
    try:
        data, _ = file_blob(path).read(MAX_SIDECAR_BYTES)
        suffix = path.suffix.lower()
        if suffix == ".xmp":
            return _xmp_record(data)
        text = decode(data)
        if suffix == ".json":
            return json_record(text)
        if suffix in RECORD_SUFFIXES:
            return _yaml_record(text)
        lines = (line.strip() for line in text.splitlines())
        return Record(texts=tuple((language, line) for line in lines if line))
    except (MediaError, ValueError, RecursionError, ElementTree.ParseError, LookupError) as error:
        return Failure(name_of(path), "caption", f"not a caption file: {one_line(error)}")


def json_record(text: str) -> Record:
    """Read a JSON sidecar: an object, a list of captions, or one caption.

    In Takeout's JSON the `description` is the caption (`title` is the file name).

    Raises:
        ValueError: If it is not JSON, or not Unicode.
    """
    value = parse_json(text)
    if not isinstance(value, Mapping):
        return read_record({"caption": value})
    taken = value.get("photoTakenTime")
    if not isinstance(taken, Mapping):
        return read_record(value)
    seconds = str(taken.get("timestamp", ""))
    if re.fullmatch(r"-?[0-9]{1,10}", seconds):
        value = {**value, "taken_at": datetime.fromtimestamp(int(seconds), UTC).isoformat()}
    return read_record(value, {"description": ""})


def _of_takeout(target: str, names: Collection[str], cut: Mapping[str, str]) -> list[str]:
    """Media that a Takeout JSON file describes; `target` is its name without `.json`."""
    counted = _COUNTED.fullmatch(target)
    base, count = (counted[1], counted[2]) if counted else (target, "")
    head, dot, tail = base.rpartition(".")
    for name in (base, head if dot and _TAKEOUT.startswith(tail) else ""):
        path = Path(name or ".")
        counted_name = f"{path.stem}{count}{path.suffix}"
        if name and counted_name in names:
            return [counted_name]
        edited = [f"{path.stem}{mark}{count}{path.suffix}" for mark in _EDITED]
        if name and (present := [one for one in edited if one in names]):
            return present
    return [cut[base]] if not count and base in cut else []


def _unedited(name: str) -> str:
    """Name of the original image if `name` is that of an edited copy by Takeout, or ""."""
    path = Path(unicodedata.normalize("NFC", name))
    counted = _COUNTED.fullmatch(path.stem)
    stem, count = (counted[1], counted[2]) if counted else (path.stem, "")
    mark = next((mark for mark in _EDITED if stem.endswith(mark)), "")
    return f"{stem.removesuffix(mark)}{count}{path.suffix}" if mark else ""


def _xmp_record(data: bytes) -> Record:
    """Descriptions and titles of an XMP packet, with their languages."""
    if b"<!DOCTYPE" in data:
        raise ValueError("XMP has no document type")
    texts: dict[str, list[str]] = {}
    for element in ElementTree.fromstring(data).iter():
        for name in (f"{_DC}description", f"{_DC}title"):
            texts.setdefault("", []).append(element.get(name) or "")
            entries = element.iter(_LI) if element.tag == name else ()
            for entry in entries:
                language = (entry.get(_LANG) or "").replace("x-default", "")
                texts.setdefault(language, []).append(entry.text or "")
    return read_record({"caption": texts})


def _yaml_record(text: str) -> Record:
    """Title and caption of PhotoPrism's YAML; only the part of YAML that these entries use is parsed."""
    lines = text.splitlines()
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        entry = _YAML.fullmatch(line)
        if entry is not None:
            found.setdefault(entry[1].lower(), []).append(_yaml_text(entry[2] or "", lines[number:]))
    return read_record(found, dict.fromkeys(found, ""))


def _yaml_text(value: str, following: Sequence[str]) -> str:
    value = value.strip()
    if value[:1] == '"':
        return str(json.loads(value))
    if value[:1] == "'":
        return value[1:-1].replace("''", "'")
    block = itertools.takewhile(lambda line: not line.strip() or line.startswith(" "), following)
    more = [line.strip() for line in block]
    if value[:1] in ("|", ">"):
        return "\n".join(more) if value[0] == "|" else " ".join(more)
    return " ".join([value, *more])
