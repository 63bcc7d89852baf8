"""Names of files and folders that other programs create beside media and that ingest skips.

They are made by systems (macOS, Windows, Synology), photo libraries (Google Takeout, immich, PhotoPrism) and
img2dataset. Files are recognised by name, never by folder alone, so that no file of the user is skipped.
Hidden files are skipped elsewhere.
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
"""Names of Takeout's album files, in several languages."""

_IMMICH = frozenset({"thumbs", "encoded-video", "profile", "backups"})
_COUNTED = re.compile(r"\(\d+\)$")
_STATS = re.compile(r"\d+_stats\.json")
_NUMBERED = re.compile(r"\d+\.parquet")


def is_ignored(name: str) -> bool:
    """Whether a file of this name is made by a program and is neither a medium nor a caption."""
    lowered = name.lower()
    if lowered in _FILES or lowered.endswith(".aae"):
        return True
    return lowered.endswith("_stats.json") and _STATS.fullmatch(lowered) is not None


def is_ignored_folder(parent: Path, name: str, siblings: Collection[str]) -> bool:
    """Whether a folder has copies and caches of a program; `siblings` are the folders beside it."""
    if name.lower() in _FOLDERS:
        return True
    if name in _IMMICH:
        return (parent / name / ".immich").is_file() or {"thumbs", "upload"} <= set(siblings)
    if name == "storage":  # PhotoPrism's
        return "originals" in siblings or (parent / name / ".ppstorage").exists()
    return False


def is_album(path: Path, content: object) -> bool:
    """Whether a JSON file describes an album of Takeout, not an image."""
    stem = unicodedata.normalize("NFC", _COUNTED.sub("", path.stem).lower())
    return stem in _ALBUMS and isinstance(content, dict) and bool({"title", "albumData"} & content.keys())


def companions(names: Collection[str], folders: Collection[str] = ()) -> set[str]:
    """Download reports of img2dataset: Parquet files beside the folder or tar of the same number."""
    numbered = (name for name in names if _NUMBERED.fullmatch(name))
    return {name for name in numbered if name[:-8] in folders or f"{name[:-8]}.tar" in names}


def pattern(names: Sequence[str]) -> str:
    """One pattern for the tars of a folder: a range if they are numbered without gaps.

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
        expected = [f"{first[1]}{start + index:0{len(first[2])}d}.tar" for index in range(len(names))]
        if expected == sorted(names):
            return f"{first[1]}{{{first[2]}..{start + len(names) - 1:0{len(first[2])}d}}}.tar"
    endings = {".tar" if name.endswith(".tar") else ".t*gz" for name in names}
    return f"*{endings.pop()}" if len(endings) == 1 else "*.t*"
