"""Stamps: 785 photos and drawings of Tux Paint, with captions in 80 languages, audio and spoken captions.

Input: an unpacked Debian package. Output: one sample per stamp. Files of `NAME.png` are `NAME.txt` (line 1
English, then `xx.utf8=caption`), `NAME.ogg` (its sound), `NAME_desc_xx.ogg` (the spoken caption;
`NAME_desc.ogg` is English) and `NAME_xx.ogg` (the spoken name of digits and letters). Mirrored variants
(`_mirror`, `_flip`) and drawings that exist only as SVG are left out.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.collections.gettext import bcp47
from sensorium.data.collections.packages import Package, fetch
from sensorium.data.table.sample import Caption, Clip, Sample, normalise

NAME = "stamps"
DESCRIPTION = "Tux Paint stamps: pictures with captions in 80 languages, sounds and spoken captions"
LICENCE = "GPL-2.0-only"
PACKAGE = Package(
    "deb",
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    num_megabytes=161,
    keep=("usr/share/tuxpaint/stamps/", "usr/share/doc/"),
)

_VARIANT = re.compile(r"_(mirror|flip|mirror_flip)$")
_SPOKEN = re.compile(r"(?P<desc>_desc)?(?:_(?P<locale>[a-z]{2,3}(?:_[A-Za-z]{2})?))?\.(?:ogg|wav)(?:\.ogg)?")


def read(progress: Progress = quiet) -> Iterator[Sample]:
    """Download the package if needed and yield its stamps sorted by path.

    Raises:
        FetchError: If the package cannot be downloaded.
    """
    folder = fetch(PACKAGE, progress)
    yield from read_folder(folder / "usr/share/tuxpaint/stamps", licence_of(folder), progress)


def read_folder(folder: Path, licence: str, progress: Progress = quiet) -> Iterator[Sample]:
    """Yield the stamps below a `stamps` folder of Tux Paint."""
    pictures = [path for path in sorted(folder.rglob("*.png")) if not _VARIANT.search(path.stem)]
    for picture in track(pictures, len(pictures), "reading stamps", progress):
        texts = _captions(picture.with_suffix(".txt"))
        if texts:
            yield _stamp(picture, picture.relative_to(folder), texts, licence)


def licence_of(folder: Path) -> str:
    """Licence that the package states; the known one as an SPDX identifier."""
    copyright_file = folder / "usr/share/doc" / PACKAGE.name / "copyright"
    stated = re.search(r"^Files: \*$.*?^License: (\S+)$", copyright_file.read_text("utf-8"), re.M | re.S)
    name = stated.group(1) if stated else ""
    return LICENCE if name in ("", "GPL-2") else name


def _stamp(picture: Path, relative: Path, texts: list[Caption], licence: str) -> Sample:
    sound = picture.with_suffix(".ogg")
    return Sample(
        uri=f"{NAME}:{relative.as_posix()}",
        image=picture.read_bytes(),
        audio=sound.read_bytes() if sound.exists() else None,
        speech=_clips(picture),
        texts=texts,
        group=normalise(texts[0].text),
        source=NAME,
        licence=licence,
        meta={"category": relative.parent.as_posix()},
    )


def _captions(path: Path) -> list[Caption]:
    """Captions of a stamp, English first, without empty ones."""
    if not path.exists():
        return []
    first, *others = path.read_text("utf-8").splitlines() or [""]
    captions = [Caption("en", first.strip())]
    for line in others:
        key, _, text = line.partition("=")
        locale, dot, encoding = key.partition(".")
        if dot and encoding.lower() == "utf8":
            captions.append(Caption(bcp47(locale), text.strip()))
    return [caption for caption in captions if caption.text]


def _clips(picture: Path) -> list[Clip]:
    """The spoken captions and names of a stamp; English if the file name has no language."""
    clips = []
    for path in sorted(picture.parent.glob(f"{glob.escape(picture.stem)}_*")):
        spoken = _SPOKEN.fullmatch(path.name[len(picture.stem) :])
        if spoken and (spoken["desc"] or spoken["locale"]):
            clips.append(Clip(bcp47(spoken["locale"] or "en"), path.read_bytes()))
    return clips
