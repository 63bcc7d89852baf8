"""Draws detected phrases: boxes in the image, and the phrases with scores below it, in matching colours.

Input: an image and the output of `grounding.predict`. Output: a Pillow image. A phrase that is not in the
image is written in grey and has no box.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from sensorium import media
from sensorium.display.card import INK, PAPER, QUIET_INK
from sensorium.display.fonts import Colour, Typeface
from sensorium.grounding.predict import Detection

COLOURS: tuple[Colour, ...] = (
    (214, 62, 56),
    (38, 108, 196),
    (36, 138, 82),
    (196, 118, 12),
    (134, 72, 182),
    (14, 138, 150),
    (190, 52, 128),
    (98, 96, 44),
)
_LONG_SIDE_PX = 760
_MARGIN_PX = 36
_LINE_PX = 40
_TEXT_PX = 24
_LABEL_PX = 18
_DESK = (247, 246, 243)
_SHADE = (228, 226, 220)


def draw_boxes(image: media.Image, found: Sequence[Detection]) -> Image.Image:
    """Draw the boxes of each phrase, and the phrases below; `found` is in the order of the text."""
    zoom = _LONG_SIDE_PX / max(image.pixels.shape[:2])
    size = tuple(max(1, round(side * zoom)) for side in image.pixels.shape[1::-1])
    shown = image.to_pillow().convert("RGB").resize(size, Image.Resampling.LANCZOS)
    width = max(shown.width, _LONG_SIDE_PX // 2) + 2 * _MARGIN_PX
    lines = _lay_out(found, width - 2 * _MARGIN_PX)
    sheet = Image.new("RGB", (width, shown.height + 2 * _MARGIN_PX + 14 + _LINE_PX * len(lines)), _DESK)
    corner = ((width - shown.width) // 2, _MARGIN_PX)
    sheet.paste(shown, corner)
    canvas = ImageDraw.Draw(sheet)
    canvas.rectangle(
        (corner[0] - 1, corner[1] - 1, corner[0] + shown.width, corner[1] + shown.height), outline=_SHADE
    )
    for number, one in reversed(list(enumerate(found))):
        for box in one.named[::-1]:
            scaled = tuple(float(value) * zoom for value in box)
            _draw_box(canvas, corner, scaled, COLOURS[number % len(COLOURS)])
    _label_boxes(canvas, found, corner, zoom, (shown.width, shown.height))
    top = corner[1] + shown.height + 22
    for place, line in enumerate(lines):
        _draw_line(canvas, line, (_MARGIN_PX, top + place * _LINE_PX))
    return sheet


def _draw_box(
    canvas: ImageDraw.ImageDraw, corner: tuple[int, int], box: tuple[float, ...], colour: Colour
) -> None:
    """Draw an outline with a light rim, visible on any background."""
    x0, y0, x1, y1 = (value + corner[place % 2] for place, value in enumerate(box))
    canvas.rounded_rectangle((x0 - 2, y0 - 2, x1 + 2, y1 + 2), 8, outline=PAPER, width=8)
    canvas.rounded_rectangle((x0, y0, x1, y1), 6, outline=colour, width=4)


def _label_boxes(
    canvas: ImageDraw.ImageDraw,
    found: Sequence[Detection],
    corner: tuple[int, int],
    zoom: float,
    size: tuple[int, int],
) -> None:
    """Draw the number of each phrase above its boxes, or inside them; labels do not overlap."""
    face, height = Typeface(_LABEL_PX, is_bold=True), _LABEL_PX + 10
    taken: list[tuple[float, float, float]] = []
    for number, one in enumerate(found):
        label = f"{number + 1}"
        width = face.width(label) + 16
        for x, y, *_ in (one.named * zoom).tolist():
            left = corner[0] + min(max(x - 2, 0), size[0] - width)
            top = corner[1] + (y - height - 2 if y >= height + 2 else y + 6)
            while any(
                abs(top - above) < height and first - width < left < last for first, last, above in taken
            ):
                left += width + 4
            taken.append((left, left + width, top))
            colour = COLOURS[number % len(COLOURS)]
            canvas.rounded_rectangle((left, top, left + width, top + height), 7, fill=colour)
            face.draw(canvas, (left + 8, top + 1), label, PAPER)


_Chip = tuple[str, str, Colour]
"""Text, small text after it, and colour."""


def _lay_out(found: Sequence[Detection], width: int) -> list[list[_Chip]]:
    """Break phrases into lines of labels."""
    lines: list[list[_Chip]] = [[]]
    used = 0.0
    for number, one in enumerate(found):
        colour = COLOURS[number % len(COLOURS)] if one.is_there else QUIET_INK
        words = Typeface(_TEXT_PX).wrap(f"{number + 1}  {one.region.phrase}", width - 120, 1)[0]
        chip = (words, f"{one.score:.2f}" if one.is_there else "not there", colour)
        length = _chip_width(chip) + 14
        if lines[-1] and used + length > width:
            lines.append([])
            used = 0.0
        lines[-1].append(chip)
        used += length
    return lines


def _chip_width(chip: _Chip) -> float:
    return Typeface(_TEXT_PX).width(chip[0]) + Typeface(_LABEL_PX).width(chip[1]) + 42


def _draw_line(canvas: ImageDraw.ImageDraw, line: Sequence[_Chip], corner: tuple[int, int]) -> None:
    x, y = float(corner[0]), corner[1]
    for words, score, colour in line:
        width = _chip_width((words, score, colour))
        pale = tuple(round(255 - (255 - part) * 0.13) for part in colour)
        canvas.rounded_rectangle((x, y, x + width, y + _LINE_PX - 8), 10, fill=pale)
        canvas.rounded_rectangle((x, y + 6, x + 5, y + _LINE_PX - 14), 2, fill=colour)
        face, small = Typeface(_TEXT_PX), Typeface(_LABEL_PX)
        face.draw(canvas, (x + 16, y + 1), words, INK)
        small.draw(canvas, (x + 26 + face.width(words), y + 6), score, colour)
        x += width + 14
