"""Builds the card of a sample or query: a picture, a caption and a score.

The picture shows the image, a video's first frame, a sound's log-mel spectrogram and waveform, or a text.
`contact_sheet` draws cards on a PNG, `html_page` on an HTML page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageOps

from sensorium import media
from sensorium.core.errors import SensoriumError
from sensorium.data.table.sample import Sample
from sensorium.display.fonts import Typeface
from sensorium.media.logmel import log_mel

PICTURE_PX = 400
INK = (32, 33, 40)
QUIET_INK = (110, 112, 122)
PAPER = (255, 255, 255)
_HEAT = np.array(
    [[18, 14, 44], [66, 32, 104], [136, 42, 108], [211, 75, 74], [246, 148, 62], [252, 232, 164]], np.float32
)
_SOUND_RATE_HZ = 16000


@dataclass(frozen=True)
class Card:
    """The display of one sample or query.

    Attributes:
        caption: Its text, or its name.
        kind: Field that `picture` shows: image, video, audio, speech or text.
        picture: Square, `PICTURE_PX` wide.
        score: Similarity to the query; None for the query itself.
        detail: A short note, such as a duration.
        data: Encoded media, which a page can play.
        words: Text in the picture.
    """

    caption: str
    kind: str
    picture: Image.Image = field(repr=False)
    score: float | None = None
    detail: str = ""
    data: bytes = field(default=b"", repr=False)
    words: str = ""


def sample_card(sample: Sample, *, score: float | None = None, shown: str = "", language: str = "en") -> Card:
    """Build the card of a row; if it lacks the field `shown`, the first field that it has is shown."""
    caption = _caption(sample, language)
    kind, data = _choose(sample, shown)
    try:
        if not data:
            return Card(caption, "text", _text_picture(caption), score, words=caption)
        opened = media.open(data, target_px=PICTURE_PX)
        picture, detail = _picture(opened)
    except SensoriumError as error:
        return Card(caption, kind, _text_picture(str(error)), score, "unreadable")
    return Card(caption, kind, picture, score, detail, data)


def query_card(query: object, caption: str) -> Card:
    """Build the card of a query: a text, a path or encoded media; anything else is shown by its caption."""
    if isinstance(query, Path | bytes):
        data = query.read_bytes() if isinstance(query, Path) else query
        opened = media.open(data, target_px=PICTURE_PX)
        picture, detail = _picture(opened)
        return Card(caption, type(opened).__name__.lower(), picture, detail=detail, data=data)
    words = query if isinstance(query, str) else caption
    return Card("", "text", _text_picture(words), words=words)


def _choose(sample: Sample, shown: str) -> tuple[str, bytes]:
    """The field to show and its bytes: the searched one, else the first that exists."""
    speech = sample.speech[0].data if sample.speech else None
    held = {"image": sample.image, "video": sample.video, "audio": sample.audio, "speech": speech}
    order = [shown, *held] if shown in held else list(held)
    return next(((name, data) for name in order if (data := held[name])), ("text", b""))


def _caption(sample: Sample, language: str) -> str:
    texts = [caption.text for caption in sample.texts if caption.language.split("-")[0] == language]
    texts += [caption.text for caption in sample.texts]
    return texts[0] if texts else Path(sample.uri).name


def _picture(opened: media.Image | media.Audio | media.Video | media.Text) -> tuple[Image.Image, str]:
    """Picture and detail of opened media."""
    if isinstance(opened, media.Image):
        return _square(opened.to_pillow()), ""
    if isinstance(opened, media.Video):
        length = f"{opened.times_s[-1]:.1f} s" if len(opened.times_s) else ""
        return _square(Image.fromarray(opened.frames[0])), length
    if isinstance(opened, media.Audio):
        samples = opened.mono(_SOUND_RATE_HZ)
        return _sound_picture(samples), f"{len(samples) / _SOUND_RATE_HZ:.1f} s"
    return _text_picture(opened.text), ""


def _square(image: Image.Image) -> Image.Image:
    """Fit into a white square; small images are enlarged by integer factors."""
    side = max(image.size)
    if side * 2 <= PICTURE_PX:
        image = image.resize(
            (image.width * (PICTURE_PX // side), image.height * (PICTURE_PX // side)),
            Image.Resampling.BICUBIC,
        )
    return ImageOps.pad(image.convert("RGB"), (PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS, PAPER)


def _sound_picture(samples: Float32[np.ndarray, " T"]) -> Image.Image:
    """Log-mel spectrogram, low frequencies at the bottom, with the waveform below."""
    if len(samples) < _SOUND_RATE_HZ // 20:
        samples = np.pad(samples, (0, _SOUND_RATE_HZ // 20 - len(samples)))
    mel = log_mel(samples, num_mels=64, rate_hz=_SOUND_RATE_HZ).T[::-1]
    low, high = np.percentile(mel, [10, 99.8])
    heat = _heat_map(((mel - low) / max(float(high - low), 1e-6)).clip(0, 1).astype(np.float32))
    size = (PICTURE_PX, PICTURE_PX * 3 // 4)
    picture = Image.new("RGB", (PICTURE_PX, PICTURE_PX), tuple(_HEAT[0].astype(int)))
    picture.paste(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR), (0, 0))
    _draw_wave(picture, samples)
    return picture


def _heat_map(values: Float32[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Colour map of values in 0..1."""
    steps = np.arange(len(_HEAT)) / (len(_HEAT) - 1)
    return np.stack([np.interp(values, steps, channel) for channel in _HEAT.T], axis=-1).astype(np.uint8)


def _draw_wave(picture: Image.Image, samples: Float32[np.ndarray, " T"]) -> None:
    num_bars, middle, reach = 80, PICTURE_PX * 7 // 8, PICTURE_PX // 10
    peaks = np.array([np.abs(part).max(initial=0) for part in np.array_split(samples, num_bars)])
    peaks = peaks / max(float(peaks.max()), 1e-6)
    canvas = ImageDraw.Draw(picture)
    step = PICTURE_PX / num_bars
    for place, peak in enumerate(peaks):
        x, height = place * step + 1, max(1.0, reach * float(peak))
        canvas.rounded_rectangle((x, middle - height, x + step - 2, middle + height), 1, fill=(252, 222, 150))


def _text_picture(text: str) -> Image.Image:
    """Text in the largest size that fits on six lines."""
    picture = Image.new("RGB", (PICTURE_PX, PICTURE_PX), (243, 242, 238))
    canvas = ImageDraw.Draw(picture)
    width = PICTURE_PX - 56
    for size_px in (46, 38, 31, 26):
        face = Typeface(size_px)
        lines = face.wrap(text, width, num_lines=6)
        if " ".join(lines) == " ".join(text.split()):
            break
    top = (PICTURE_PX - len(lines) * size_px * 1.35) / 2
    for place, line in enumerate(lines):
        face.draw(canvas, ((PICTURE_PX - face.width(line)) / 2, top + place * size_px * 1.35), line, INK)
    return picture
