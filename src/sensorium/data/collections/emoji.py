"""Emoji: about 1,900 images from each of five vendors, with names in a hundred languages and some animations.

Input: npm packages with the vendors' images, Unicode's names (CLDR) and Microsoft's animations. Output: one
sample per vendor and emoji, with `source` = vendor and `group` = code points, so that a split can hold out a
vendor, or emoji of all vendors. Skin tones are left out. A caption is the emoji's name in one language; a
second English one lists its keywords. Animations are videos of Microsoft's rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.collections.packages import Package, fetch
from sensorium.data.table.sample import Caption, Sample

NAME = "emoji"
DESCRIPTION = "Emoji of Google, Twitter, Microsoft, Apple and Facebook with names in a hundred languages"
LICENCE = "each row states its vendor's"
_VERSION = "16.0.0"


@dataclass(frozen=True)
class Vendor:
    """A vendor: its package, the folder and suffix of its images, and their licence."""

    name: str
    package: Package
    folder: str
    suffix: str
    licence: str


def _datasource(name: str, sha256: str, num_megabytes: int, licence: str) -> Vendor:
    folder = f"package/img/{name}/64"
    keep = (f"{folder}/", "package/emoji.json", "package/LICENSE")
    package = Package("npm", f"emoji-datasource-{name}", _VERSION, sha256, num_megabytes, keep)
    return Vendor(name, package, folder, ".png", licence)


VENDORS = (
    _datasource(
        "google", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438", 74, "Apache-2.0"
    ),
    _datasource(
        "twitter", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877", 62, "CC-BY-4.0"
    ),
    Vendor(
        "microsoft",
        Package(
            "npm",
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
            16,
        ),
        "package/assets",
        ".webp",
        "MIT",
    ),
    _datasource(
        "apple",
        "b34d1665e136f163b0d4433318df151895b785186e8c729b2211b43017945075",
        99,
        "LicenseRef-Apple: not for commercial use",
    ),
    _datasource(
        "facebook",
        "017038cf5a4e7fcf03dd9133cbed43d4c281c4b3ce7b927c7160261b92b8821e",
        103,
        "LicenseRef-Facebook: no licence stated",
    ),
)
ANIMATIONS = Package(
    "npm",
    "@lobehub/fluent-emoji-anim-1",
    "1.0.0",
    "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
    165,
)
ANNOTATIONS = (
    Package(
        "npm",
        "cldr-annotations-full",
        "48.2.0",
        "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1",
        7,
    ),
    Package(
        "npm",
        "cldr-annotations-derived-full",
        "48.2.0",
        "4be946ff5815f806ec78b50363d577a769f2fbfb90c6380a44e161a92436996e",
        4,
    ),
)

_VARIATION = "\ufe0f"


def read(progress: Progress = quiet) -> Iterator[Sample]:
    """Download the packages if needed and yield the images, vendor by vendor, in Unicode's order.

    Raises:
        FetchError: If a package cannot be downloaded.
    """
    folders = {vendor.name: fetch(vendor.package, progress) for vendor in VENDORS}
    moving = fetch(ANIMATIONS, progress) / "package/assets"
    annotations = [fetch(package, progress) / "package" for package in ANNOTATIONS]
    progress(0, None, "reading names")
    names = read_names(annotations)
    catalogue = json.loads((folders["google"] / "package/emoji.json").read_text("utf-8"))
    catalogue.sort(key=lambda entry: entry["sort_order"])
    texts = {entry["unified"]: _captions(entry, names) for entry in catalogue}
    pairs = [(vendor, entry) for vendor in VENDORS for entry in catalogue]
    for vendor, entry in track(pairs, len(pairs), "reading emoji", progress):
        picture = _file(folders[vendor.name] / vendor.folder, entry, vendor.suffix)
        if picture is not None and entry.get(f"has_img_{vendor.name}", True):
            video = _file(moving, entry, ".webp") if vendor.name == "microsoft" else None
            yield _sample(vendor, entry, picture, video, texts[entry["unified"]])


def read_names(folders: list[Path]) -> dict[str, dict[str, list[str]]]:
    """Read names and keywords from CLDR packages (`*/LANGUAGE/annotations.json` in each folder).

    Returns:
        For each language and emoji (without variation selectors) its name, followed by its keywords.
    """
    names: dict[str, dict[str, list[str]]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/*/annotations.json")):
            content = json.loads(path.read_text("utf-8"))
            entries = next(iter(content.values())).get("annotations", {})
            language = names.setdefault(path.parent.name, {})
            for emoji, entry in entries.items():
                if entry.get("tts"):
                    language[emoji.replace(_VARIATION, "")] = [entry["tts"][0], *entry.get("default", [])]
    return names


def _sample(
    vendor: Vendor,
    entry: Mapping[str, Any],
    picture: Path,
    video: Path | None,
    texts: list[Caption],
) -> Sample:
    codepoint = entry["unified"].lower()
    return Sample(
        uri=f"{NAME}:{vendor.name}/{codepoint}",
        image=picture.read_bytes(),
        video=None if video is None else video.read_bytes(),
        texts=texts,
        group=codepoint,
        source=vendor.name,
        licence=vendor.licence,
        meta={
            "codepoint": codepoint,
            "vendor": vendor.name,
            "category": entry["category"],
            "subcategory": entry["subcategory"],
        },
    )


def _captions(entry: Mapping[str, Any], names: Mapping[str, Mapping[str, list[str]]]) -> list[Caption]:
    """English name and keywords, then other languages; a regional name (de-CH) only if it differs."""
    emoji = "".join(chr(int(part, 16)) for part in entry["unified"].split("-")).replace(_VARIATION, "")
    fallback = (entry["name"] or entry["short_name"]).lower()
    name, *keywords = names.get("en", {}).get(emoji, [fallback])
    captions = [Caption("en", name)]
    keywords = [word for word in keywords if word.lower() != name.lower()]
    if keywords:
        captions.append(Caption("en", ", ".join(keywords)))
    for language, known in sorted(names.items()):
        parent = names.get(language.rpartition("-")[0], {}).get(emoji, [""])[0]
        if language != "en" and emoji in known and known[emoji][0] not in ("", parent):
            captions.append(Caption(language, known[emoji][0]))
    return captions


def _file(folder: Path, entry: Mapping[str, Any], suffix: str) -> Path | None:
    """File of an emoji; packages differ in the variation selectors of file names."""
    for code in (entry["unified"], entry["non_qualified"]):
        path = folder / f"{(code or '').lower()}{suffix}"
        if code and path.exists():
            return path
    return None
