"""Distinguishes file paths from texts, so that a mistyped path is not used as a text query.

Input: a string from the command line or a call. Output: a `Path`, the text, or a `UsageError`. No file is
opened.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sensorium.core.errors import UsageError
from sensorium.media.types import Text

_ENDINGS = (
    "jpg jpeg jpe jfif png apng gif webp bmp tif tiff avif heic heif jxl svg "
    "wav wave mp3 flac ogg oga opus m4a aac aif aiff wma amr "
    "mp4 m4v mov mkv webm avi mpg mpeg wmv flv ogv 3gp "
    "txt md srt vtt npy"
).split()
_ENDING = re.compile(rf".*[^\s/\\]\.({'|'.join(_ENDINGS)})", re.IGNORECASE)
_ROOTED = re.compile(r"(~|\.{1,2})?/[^\s/]|~?\\\\|[A-Za-z]:[\\/]|\.{1,2}\\")
_URL = re.compile(r"(https?|ftp|file|s3|gs)://\S+", re.IGNORECASE)
_LONGEST = 4096


def file_or_text(argument: str, *, remedy: str) -> Path | str:
    """Interpret an argument: a path if the file exists, else a text.

    Args:
        argument: From the command line.
        remedy: How to pass a text, for the message, such as `for words add --text`.

    Raises:
        UsageError: If it looks like a path or URL (`looks_like_path`) and the file does not exist.
    """
    place = os.path.expanduser(argument) if argument.startswith("~/") else argument
    if os.path.isfile(place):
        return Path(place)
    if _URL.fullmatch(argument.strip()):
        raise UsageError(f"'{argument}' is a URL, which is not fetched here; give a file, or {remedy}")
    if looks_like_path(argument):
        found = "is a folder" if os.path.isdir(place) else "looks like a path, and no such file is there"
        raise UsageError(f"'{argument}' {found}; give the path of a file, or {remedy}")
    return argument


def looks_like_path(text: str) -> bool:
    r"""Whether a text is called like a file, by any of several signs.

    - it ends like a media, text or NumPy file (`frog.jpg`);
    - it begins at a root: `/`, `./`, `../`, `~/`, `C:\`;
    - it is one word with two separators or more (`a/b/c`), unless its parts are numbers (`24/12/2025`);
    - its folder is there (`pictures/frog`, where `pictures` is a folder).

    One separator alone is no sign: `and/or`, `24/7` and `a black/white photo` are texts.

    Example:
        >>> [looks_like_path(one) for one in ("typo.jpg", "./frog", "a/b/c", "C:\\a.b")]
        [True, True, True, True]
        >>> [looks_like_path(one) for one in ("and/or", "24/12/2025", "black/white photo", "What is .png?")]
        [False, False, False, False]
    """
    name = text.strip()
    if not name or "\n" in name or len(name) > _LONGEST:
        return False
    if _ENDING.fullmatch(name) or _ROOTED.match(name) or _URL.fullmatch(name):
        return True
    parts = [part for part in name.split("/") if part]
    if len(parts) > 2 and len(name.split()) == 1 and not all(part.isdecimal() for part in parts):
        return True
    folder = os.path.dirname(name)
    return bool(folder.strip("/")) and os.path.isdir(folder)


def as_words(text: str) -> str | Text:
    """Wrap the text in `Text` if a file of that name exists, so that a model does not refuse it."""
    return Text(text) if os.path.isfile(text) else text


def refuse_file_name(text: str) -> None:
    """Refuse (UsageError) a `str` that names an existing file, because its meaning is ambiguous."""
    if os.path.isfile(text):
        raise UsageError(
            f"'{text}' is a file; give a Path for what it holds, or Text({text!r}) for the words"
        )
