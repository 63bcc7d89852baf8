"""One row of a media table: encoded media, texts by language, regions and provenance.

Media stay encoded: `sensorium.media.open` decodes them. `data.ingest` and `data.collections` make samples,
`Table.add` stores them, `Table.rows` returns them.
"""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

COLUMN_OF: Mapping[str, str] = {
    "image": "image",
    "text": "texts",
    "audio": "audio",
    "speech": "speech",
    "video": "video",
}
"""The attribute of a sample that holds each field."""


@dataclass(frozen=True)
class Clip:
    """A spoken caption: encoded audio and its language (`""` if unknown)."""

    language: str
    data: bytes


@dataclass(frozen=True)
class Caption:
    """A written caption and its language (BCP 47 such as `en` or `pt-BR`; `""` if unknown)."""

    language: str
    text: str


@dataclass(frozen=True)
class Region:
    """A phrase with its bounding boxes in the image.

    Attributes:
        text: A caption or a referring expression.
        start: Index of the phrase's first character within `text`.
        end: Index after its last character.
        boxes: (x0, y0, x1, y1) in pixels of the stored image, corners at pixel edges. Several if the phrase
            names several objects, none if the object is absent.

    Example:
        >>> Region("a frog on a log", 0, 6, [(3.0, 5.0, 20.0, 31.0)]).phrase
        'a frog'
    """

    text: str
    start: int
    end: int
    boxes: Sequence[Sequence[float]] = ()

    def __post_init__(self) -> None:
        boxes = tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in self.boxes)
        object.__setattr__(self, "boxes", boxes)

    @property
    def phrase(self) -> str:
        """The words themselves."""
        return self.text[self.start : self.end]


@dataclass(frozen=True)
class Sample:
    """One row, with any of the modalities.

    Attributes:
        uri: Origin: a path, a URL or `package:name`.
        image: Encoded image (PNG, JPEG, ...), or None.
        audio: Encoded audio, or None.
        video: Encoded video, or None.
        speech: Spoken captions.
        texts: Captions by language; the first is the main one if none is English.
        group: A split keeps rows of one group together; None: `Table.add` uses `default_group`.
        source: Name of the collection.
        licence: SPDX expression or a sentence.
        meta: Other plain values.
        phash: Perceptual hash of the image, 64 bits as a signed integer, or None if not computed.
        width_px: Width of the image or video, or None if unknown.
        height_px: Height, likewise.
        duration_s: Duration of the audio or video in seconds, or None.
        regions: Phrases with their boxes in the image.
    """

    uri: str
    image: bytes | None = None
    audio: bytes | None = None
    video: bytes | None = None
    speech: Sequence[Clip] = ()
    texts: Sequence[Caption] = ()
    group: str | None = None
    source: str = ""
    licence: str = ""
    meta: Mapping[str, str | int | float] = field(default_factory=dict)
    phash: int | None = None
    width_px: int | None = None
    height_px: int | None = None
    duration_s: float | None = None
    regions: Sequence[Region] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "speech", tuple(self.speech))
        object.__setattr__(self, "texts", tuple(self.texts))
        object.__setattr__(self, "regions", tuple(self.regions))
        object.__setattr__(self, "meta", dict(self.meta))

    @cached_property
    def id(self) -> str:
        """Content id: SHA-256 of media bytes, texts and regions, 32 hex digits; independent of the uri.

        Example:
            >>> one = Sample("a.txt", texts=[Caption("en", "a frog")])
            >>> one.id == Sample("b.txt", texts=[Caption("en", "a frog")]).id
            True
        """
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(struct.pack("<q", -1 if part is None else len(part)))
            digest.update(part or b"")
        return digest.hexdigest()[:32]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that this sample has, in the order of `sensorium.core.types.FIELDS`."""
        return tuple(name for name, attribute in COLUMN_OF.items() if getattr(self, attribute))

    @property
    def num_bytes(self) -> int:
        """Size of all encoded media."""
        media = (self.image, self.audio, self.video, *(clip.data for clip in self.speech))
        return sum(len(data) for data in media if data is not None)

    @property
    def default_group(self) -> str:
        """Group of a sample without one: its main caption normalised, or its id."""
        english = [caption.text for caption in self.texts if caption.language.split("-")[0] == "en"]
        captions = [normalise(text) for text in english or [caption.text for caption in self.texts]]
        return next((caption for caption in captions if caption), self.id)

    def _parts(self) -> Iterator[bytes | None]:
        """Media and texts in a fixed order; lists start with their length, so that the coding is unique."""
        yield from (self.image, self.audio, self.video)
        yield str(len(self.speech)).encode()
        for clip in self.speech:
            yield from (_bytes(clip.language), clip.data)
        yield str(len(self.texts)).encode()
        for caption in self.texts:
            yield from (_bytes(caption.language), _bytes(caption.text))
        if self.regions:  # without regions the id equals that of older versions
            yield str(len(self.regions)).encode()
            for region in self.regions:
                yield from (_bytes(region.text), repr((region.start, region.end, region.boxes)).encode())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def normalise(text: str) -> str:
    r"""Letters and digits of `text` in lower case, with single spaces between words, in any script.

    Example:
        >>> normalise("  A Frog,\n(green) ")
        'a frog green'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (char if unicodedata.category(char)[0] in "LMN" else " " for char in folded)
    return " ".join("".join(kept).split())


def asked_of(field: str, asked: Sequence[str]) -> tuple[str, ...]:
    """The language patterns that apply to one field.

    Args:
        field: `text` or `speech`.
        asked: Patterns such as `en` or `en*` (which also matches `en-GB`); `speech:fr` applies to speech
            only. A field without a pattern accepts all languages.

    Example:
        >>> asked_of("text", ["text:en", "speech:fr"]), asked_of("speech", ["text:en"])
        (('en',), ())
    """
    parts = [entry.rpartition(":") for entry in asked]
    return tuple(sorted(code for name, _, code in parts if name in ("", field)))


def is_asked(language: str, field: str, asked: Sequence[str]) -> bool:
    """Whether the patterns accept a caption or clip of this language; an unknown language is accepted.

    Example:
        >>> [is_asked(code, "text", ["en*"]) for code in ("en-GB", "fr", "")]
        [True, False, True]
    """
    codes = asked_of(field, asked)
    return not codes or not language or any(fnmatchcase(language, code) for code in codes)
