"""A contact sheet as one HTML file that needs nothing beside it: pictures and sounds are inside.

In: strips of cards. Out: the text of the page; short sounds and videos can be played in it.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from importlib import resources

from PIL import Image

from sensorium.core.printable import visible
from sensorium.display.card import Card
from sensorium.display.contact_sheet import KIND_NAMES, Strip

PLAYABLE_BYTES = 4_000_000


def draw_page(strips: Sequence[Strip], *, title: str = "", footer: str = "") -> str:
    """Write the page.

    Args:
        strips: One for each query.
        title: Heading.
        footer: Small print.
    """
    style = resources.files("sensorium.display").joinpath("page.css").read_text(encoding="utf-8")
    name = _escaped(title or "sensorium search")
    sections = "\n".join(_section(strip) for strip in strips)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{name}</h1>\n"
        f"<main>\n{sections}\n</main>\n<footer>{_escaped(footer)}</footer>\n</body>\n</html>\n"
    )


def _escaped(text: str) -> str:
    """Text of strangers in HTML: neither markup nor what turns a line round or is no UTF-8."""
    return html.escape(visible(text))


def _section(strip: Strip) -> str:
    items = "\n".join(f"<li>{_card(card, 'card')}</li>" for card in strip.hits) or "<li>nothing found</li>"
    return f"<section>\n{_card(strip.query, 'card query')}\n<ol>\n{items}\n</ol>\n</section>"


def _card(card: Card, classes: str) -> str:
    words = KIND_NAMES.get(card.kind, card.kind)
    left = " · ".join(
        part for part in (words if card.score is not None else f"query: {words}", card.detail) if part
    )
    right = "" if card.score is None else f"<b>{card.score:.3f}</b>"
    caption = f'<p class="caption" dir="auto">{_escaped(card.caption)}</p>' if card.caption else ""
    small = f'<p class="small"><span>{_escaped(left)}</span>{right}</p>'
    return f'<article class="{classes}">{_shown(card)}{caption}{small}</article>'


def _shown(card: Card) -> str:
    """The picture, with a player where the media can be played."""
    if card.kind == "text":
        return f'<div class="words" dir="auto">{_escaped(card.words or card.caption)}</div>'
    picture = _data_uri("image/jpeg", _jpeg(card.picture))
    is_playable = 0 < len(card.data) <= PLAYABLE_BYTES
    if is_playable and card.kind == "video" and _video_type(card.data):
        video = _data_uri(_video_type(card.data), card.data)
        return f'<video controls muted loop preload="none" poster="{picture}" src="{video}"></video>'
    image = f'<img alt="{_escaped(card.caption)}" src="{picture}">'
    if is_playable and card.kind == "video":
        return image.replace(picture, _data_uri(_image_type(card.data), card.data))
    if is_playable and card.kind in ("audio", "speech"):
        sound = _data_uri(_audio_type(card.data), card.data)
        return f'{image}<audio controls preload="none" src="{sound}"></audio>'
    return image


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _video_type(data: bytes) -> str:
    """Type of a container that browsers play as a video, or nothing for a moving picture."""
    if data[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if data[:4] == b"\x1aE\xdf\xa3" else ""


def _image_type(data: bytes) -> str:
    if data[:4] == b"RIFF":
        return "image/webp"
    return "image/gif" if data[:3] == b"GIF" else "image/png"


def _audio_type(data: bytes) -> str:
    heads = {b"OggS": "audio/ogg", b"fLaC": "audio/flac", b"RIFF": "audio/wav"}
    return heads.get(data[:4], "audio/mp4" if data[4:8] == b"ftyp" else "audio/mpeg")
