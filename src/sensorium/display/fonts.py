"""Draws text in any script on a Pillow image, with font fallback for each character.

DejaVu comes with matplotlib and covers Latin, Greek, Cyrillic, Arabic and Hebrew. Chinese, Japanese, Korean
and Indic scripts need a system font; without one, characters are drawn as boxes.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

from sensorium.core.printable import visible

Colour = tuple[int, int, int]
Pixels = int | float

_SYSTEM_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "C:/Windows/Fonts",
)
_WIDE_COVERAGE = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSans-Regular.ttc",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "msyh.ttc",
    "msgothic.ttc",
    "malgun.ttf",
    "unifont.otf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansTamil-Regular.ttf",
    "Lohit-Devanagari.ttf",
    "FreeSans.ttf",
    "Nirmala.ttf",
)
_NO_CHARACTER = "\U0010ffff"


class Typeface:
    """A stack of fonts of one size; each character is drawn by the first font that has it.

    Only DejaVu has a bold weight.

    Example:
        >>> Typeface(12).width("wide") > Typeface(12).width("i")
        True
    """

    def __init__(self, size_px: int, is_bold: bool = False) -> None:
        self.size_px = size_px
        self._is_bold = is_bold

    def draw(self, canvas: ImageDraw.ImageDraw, xy: tuple[Pixels, Pixels], text: str, fill: Colour) -> None:
        """Draw one line with its top left corner at `xy`."""
        x, y = xy
        baseline = y + self.size_px
        for font, run in self._runs(text):
            canvas.text((x, baseline), run, font=font, fill=fill, anchor="ls")
            x += font.getlength(run)

    def width(self, text: str) -> float:
        """Width of one line in pixels."""
        return float(sum(font.getlength(run) for font, run in self._runs(text)))

    def wrap(self, text: str, width_px: Pixels, num_lines: int) -> list[str]:
        """Break `text` into at most `num_lines` lines; what does not fit ends in an ellipsis."""
        lines: list[str] = []
        rest = " ".join(text.split())
        while rest and len(lines) < num_lines:
            is_last = len(lines) == num_lines - 1
            end = self._fitting(rest, width_px)
            if end < len(rest) and is_last:
                lines.append(rest[: max(1, self._fitting(rest, width_px - self.width("…")))].rstrip() + "…")
                break
            if end < len(rest) and " " in rest[: end + 1]:
                end = rest.rindex(" ", 0, end + 1)
            lines.append(rest[: max(1, end)].rstrip())
            rest = rest[max(1, end) :].lstrip()
        return lines

    def _fitting(self, text: str, width_px: Pixels) -> int:
        """Number of characters from the start that fit, by bisection."""
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle]) <= width_px else (low, middle - 1)
        return low

    def _runs(self, text: str) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
        shown = visible(text)  # Pillow fails on lone surrogates and draws line breaks as new lines
        for place, characters in itertools.groupby(
            shown.replace("\n", " "), lambda char: _font_with(char, self._is_bold)
        ):
            yield _load(place, self.size_px), "".join(characters)


@lru_cache(maxsize=4096)
def _font_with(character: str, is_bold: bool) -> Path:
    chain = _chain(is_bold)
    if character.isspace():
        return chain[0]
    return next((place for place in chain if _has(place, character)), chain[0])


def _has(place: Path, character: str) -> bool:
    """Whether a font has a character; it draws missing ones as the same box."""
    font = _load(place, 16)
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))


@cache
def _chain(is_bold: bool) -> tuple[Path, ...]:
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None, "matplotlib is a dependency"
    bundled = Path(str(spec.origin)).parent / "mpl-data/fonts/ttf"
    name = "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf"
    return (bundled / name, *_system_fonts())


@cache
def _system_fonts() -> tuple[Path, ...]:
    roots = [Path(folder).expanduser() for folder in _SYSTEM_FOLDERS]
    found = {path.name: path for root in roots if root.is_dir() for path in root.rglob("*.[to]t[fc]")}
    return tuple(found[name] for name in _WIDE_COVERAGE if name in found)


@lru_cache(maxsize=256)
def _load(place: Path, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(place), size_px)
