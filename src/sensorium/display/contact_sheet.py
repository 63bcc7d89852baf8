"""Draws a contact sheet: one strip for each query, with its card at the left and the hits beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from sensorium.core.errors import UsageError
from sensorium.display.card import INK, PAPER, QUIET_INK, Card
from sensorium.display.fonts import Typeface

_CARD_PX = 320
_CAPTION_PX = 104
_GAP_PX = 24
_MARGIN_PX = 56
_QUERY_GAP_PX = 56
_RADIUS_PX = 18
_DESK = (247, 246, 243)
_EDGE = (226, 224, 218)
_ACCENT = (38, 92, 168)
KIND_NAMES = {"image": "image", "video": "video", "audio": "sound", "speech": "spoken words", "text": "text"}


@dataclass(frozen=True)
class Strip:
    """A query and its hits, best first."""

    query: Card
    hits: Sequence[Card]


def draw_sheet(
    strips: Sequence[Strip], *, title: str = "", footer: str = "", columns: int = 5
) -> Image.Image:
    """Draw a strip for each query, with `columns` hits in a line, a heading and small print below.

    Raises:
        UsageError: If there are no strips.
    """
    if not strips:
        raise UsageError("no queries to draw; give at least one strip")
    columns = max(1, min(columns, max(len(strip.hits) for strip in strips)))
    heights = [_strip_height(strip, columns) for strip in strips]
    left = _MARGIN_PX + _CARD_PX + _QUERY_GAP_PX
    width = left + columns * (_CARD_PX + _GAP_PX) - _GAP_PX + _MARGIN_PX
    top = _MARGIN_PX + (72 if title else 0)
    height = top + sum(heights) + _GAP_PX * (len(strips) - 1) + _MARGIN_PX + (24 if footer else 0)
    sheet = Image.new("RGB", (width, height), _DESK)
    canvas = ImageDraw.Draw(sheet)
    if title:
        line = Typeface(40, is_bold=True).wrap(title, width - 2 * _MARGIN_PX, 1)[0]
        Typeface(40, is_bold=True).draw(canvas, (_MARGIN_PX, _MARGIN_PX - 12), line, INK)
    for strip, strip_height in zip(strips, heights, strict=True):
        _draw_strip(sheet, strip, (left, top), columns)
        top += strip_height + _GAP_PX
    Typeface(20).draw(canvas, (_MARGIN_PX, height - _MARGIN_PX - 2), footer, QUIET_INK)
    return sheet


def _strip_height(strip: Strip, columns: int) -> int:
    num_lines = max(1, -(-len(strip.hits) // columns))
    return num_lines * (_CARD_PX + _CAPTION_PX + _GAP_PX) - _GAP_PX


def _draw_strip(sheet: Image.Image, strip: Strip, corner: tuple[int, int], columns: int) -> None:
    left, top = corner
    _draw_card(sheet, strip.query, (_MARGIN_PX, top), _ACCENT)
    _draw_arrow(sheet, (left - _QUERY_GAP_PX, top + _CARD_PX // 2))
    if not strip.hits:
        Typeface(26).draw(
            ImageDraw.Draw(sheet), (left + 8, top + _CARD_PX // 2 - 17), "nothing found", QUIET_INK
        )
    for place, card in enumerate(strip.hits):
        line, column = divmod(place, columns)
        x = left + column * (_CARD_PX + _GAP_PX)
        _draw_card(sheet, card, (x, top + line * (_CARD_PX + _CAPTION_PX + _GAP_PX)), _EDGE)


def _draw_card(sheet: Image.Image, card: Card, corner: tuple[int, int], edge: tuple[int, int, int]) -> None:
    x, y = corner
    height = _CARD_PX + _CAPTION_PX
    canvas = ImageDraw.Draw(sheet)
    canvas.rounded_rectangle((x, y, x + _CARD_PX, y + height), _RADIUS_PX, fill=PAPER)
    picture = card.picture.resize((_CARD_PX, _CARD_PX), Image.Resampling.LANCZOS)
    sheet.paste(picture, (x, y), _rounded_top((_CARD_PX, _CARD_PX)))
    canvas.line((x, y + _CARD_PX, x + _CARD_PX, y + _CARD_PX), fill=_EDGE, width=2)
    canvas.rounded_rectangle(
        (x, y, x + _CARD_PX, y + height), _RADIUS_PX, outline=edge, width=2 if edge == _EDGE else 4
    )
    face = Typeface(21)
    lines = face.wrap(card.caption, _CARD_PX - 32, 2)
    for place, line in enumerate(lines):
        face.draw(canvas, (x + 16, y + _CARD_PX + 8 + place * 28), line, INK)
    _draw_small_print(canvas, card, (x + 16, y + height - 34))


def _draw_small_print(canvas: ImageDraw.ImageDraw, card: Card, corner: tuple[int, int]) -> None:
    """Draw kind and detail at the left, the score at the right; a query is labelled as one."""
    x, y = corner
    kind = KIND_NAMES.get(card.kind, card.kind)
    words = [f"query: {kind}" if card.score is None else kind, card.detail]
    Typeface(17).draw(canvas, (x, y), " · ".join(word for word in words if word), QUIET_INK)
    if card.score is not None:
        bold, text = Typeface(19, is_bold=True), f"{card.score:.3f}"
        bold.draw(canvas, (x + _CARD_PX - 32 - bold.width(text), y - 1), text, _ACCENT)


def _draw_arrow(sheet: Image.Image, middle_left: tuple[int, int]) -> None:
    x, y = middle_left
    canvas = ImageDraw.Draw(sheet)
    canvas.line((x + 12, y, x + _QUERY_GAP_PX - 16, y), fill=_ACCENT, width=4)
    tip = x + _QUERY_GAP_PX - 10
    canvas.polygon([(tip, y), (tip - 12, y - 9), (tip - 12, y + 9)], fill=_ACCENT)


def _rounded_top(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size, 0)
    canvas = ImageDraw.Draw(mask)
    canvas.rounded_rectangle((0, 0, *size), _RADIUS_PX, fill=255, corners=(True, True, False, False))
    return mask
