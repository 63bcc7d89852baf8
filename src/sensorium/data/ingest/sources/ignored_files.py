"""Files that other programs leave among media: what is none of the user's and is passed over.

In: names of files and folders. Out: whether to pass over them. Systems (macOS, Windows, Synology), photo
libraries (Google Takeout, immich, PhotoPrism) and downloaders (img2dataset) each have their own. Hidden
files and folders are passed over anyway. Files are told by name, never by their place alone: nothing of
the user's is lost.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

_FILES = frozenset(
    "thumbs.db ehthumbs.db ehthumbs_vista.db desktop.ini icon\r picasa.ini zbthumbnail.info "
    "archive_browser.html print-subscriptions.json shared_album_comments.json "
    "user-generated-memory-titles.json".split(" ")
)
_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
_ALBUMS = frozenset(
    "metadata metadaten métadonnées metadatos metadati metagegevens metadane メタデータ".split()
)
"""How Takeout calls the file that describes an album, in some of its languages."""

_IMMICH = frozenset({"thumbs", "encoded-video", "profile", "backups"})
_COUNTED = re.compile(r"\(\d+\)$")
_STATS = re.compile(r"\d+_stats\.json")
_NUMBERED = re.compile(r"\d+\.parquet")


def is_ignored(name: str) -> bool:
    """Whether a file of this name is no medium and describes none."""
    lowered = name.lower()
    if lowered in _FILES or lowered.endswith(".aae"):
        return True
    return lowered.endswith("_stats.json") and _STATS.fullmatch(lowered) is not None


def is_ignored_folder(place: Path, name: str, siblings: Collection[str]) -> bool:
    """Whether a folder holds copies and caches that a program made; `siblings` are the folders beside it."""
    if name.lower() in _FOLDERS:
        return True
    if name in _IMMICH:
        return (place / name / ".immich").is_file() or {"thumbs", "upload"} <= set(siblings)
    if name == "storage":  # PhotoPrism's
        return "originals" in siblings or (place / name / ".ppstorage").exists()
    return False


def is_album(path: Path, content: object) -> bool:
    """Whether a JSON file describes an album of Takeout, not a picture."""
    stem = unicodedata.normalize("NFC", _COUNTED.sub("", path.stem).lower())
    return stem in _ALBUMS and isinstance(content, dict) and bool({"title", "albumData"} & content.keys())


def companions(names: Collection[str], folders: Collection[str] = ()) -> set[str]:
    """Tables in which img2dataset says how a download went, beside the folder or tar of their number."""
    numbered = (name for name in names if _NUMBERED.fullmatch(name))
    return {name for name in numbered if name[:-8] in folders or f"{name[:-8]}.tar" in names}


def pattern(names: Sequence[str]) -> str:
    """One pattern for tars of a folder: a range where they are numbered without gaps.

    Example:
        >>> pattern(["00000.tar", "00001.tar", "00002.tar"]), pattern(["a.tar", "b.tar"]), pattern(["a.tar"])
        ('{00000..00002}.tar', '*.tar', 'a.tar')
    """
    if len(names) == 1:
        return names[0]
    parts = [re.fullmatch(r"(.*?)(\d+)(\.tar)", name) for name in sorted(names)]
    first = parts[0]
    if first is not None:
        start = int(first[2])
        expected = [f"{first[1]}{start + place:0{len(first[2])}d}.tar" for place in range(len(names))]
        if expected == sorted(names):
            return f"{first[1]}{{{first[2]}..{start + len(names) - 1:0{len(first[2])}d}}}.tar"
    endings = {".tar" if name.endswith(".tar") else ".t*gz" for name in names}
    return f"*{endings.pop()}" if len(endings) == 1 else "*.t*"
