"""Renders a contact sheet as one self-contained HTML file, with images and sounds as data URIs.

Input: strips of cards, and the jinja2 template beside this file. Output: the text of the page, in which short
sounds and videos can be played.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from sensorium.core.printable import visible
from sensorium.display.card import Card
from sensorium.display.contact_sheet import KIND_NAMES, Strip

PLAYABLE_BYTES = 4_000_000


def draw_page(strips: Sequence[Strip], *, title: str = "", footer: str = "") -> str:
    """Write the page: a strip for each query, under a heading, with a footer in small print."""
    environment = Environment(
        loader=PackageLoader("sensorium", "display"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    style = resources.files("sensorium.display").joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        title=title or "sensorium search",
        style=Markup(style),
        strips=[{"query": _shown(one.query), "hits": [_shown(hit) for hit in one.hits]} for one in strips],
        footer=footer,
    )


def _printable(value: object) -> object:
    """Untrusted text without bidirectional overrides and surrogates; jinja2 then escapes it."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _shown(card: Card) -> dict[str, str]:
    """Fields of a card for the template: texts and data URIs."""
    words = KIND_NAMES.get(card.kind, card.kind)
    parts = (words if card.score is not None else f"query: {words}", card.detail)
    return {
        "kind": card.kind,
        "words": card.words,
        "caption": card.caption,
        "small": " · ".join(part for part in parts if part),
        "score": "" if card.score is None else f"{card.score:.3f}",
        **_media(card),
    }


def _media(card: Card) -> dict[str, str]:
    """Data URIs of the picture, video and sound; an animated image replaces the picture."""
    picture = video = sound = ""
    if card.kind != "text":
        picture = _data_uri("image/jpeg", _jpeg(card.picture))
    if 0 < len(card.data) <= PLAYABLE_BYTES:
        if card.kind == "video" and _video_type(card.data):
            video = _data_uri(_video_type(card.data), card.data)
        elif card.kind == "video":
            picture = _data_uri(_image_type(card.data), card.data)
        elif card.kind in ("audio", "speech"):
            sound = _data_uri(_audio_type(card.data), card.data)
    return {"picture": picture, "video": video, "sound": sound}


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _data_uri(media_type: str, data: bytes) -> Markup:
    return Markup(f"data:{media_type};base64,{base64.b64encode(data).decode()}")  # has nothing to escape


def _video_type(data: bytes) -> str:
    """MIME type of a container that browsers play as a video; empty for an animated image."""
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
