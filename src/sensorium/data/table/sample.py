"""One row of a media table as Python sees it: media bytes, texts by language and where it all came from.

Bytes stay encoded here: `sensorium.media.open` decodes them. What fills a table
(`sensorium.data.ingest.sources`) makes samples; `Table.rows` gives them back.
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
"""Which attribute of a sample holds each field."""


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
    """A phrase and where in the image the things it names are.

    Attributes:
        text: What was said: a caption, or an expression that refers to something.
        start: First character of the phrase within `text`.
        end: The character after its last.
        boxes: (x0, y0, x1, y1) in pixels of the image as stored: x to the right, y down, corners at pixel
            edges; several where the phrase names several things, none where what it names is not there.

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
    """One thing, seen through any of its modalities.

    Attributes:
        uri: Where it came from: a path, a URL or `package:name`.
        image: Encoded image (PNG, JPEG, ...), or None.
        audio: Encoded sound of the thing, or None.
        video: Encoded video, or None.
        speech: Spoken captions.
        texts: Captions by language; the first is the main one where there is no English.
        group: Samples of one group never part in a split; `Table.add` gives `default_group` where it is None.
        source: Name of the collection.
        licence: SPDX expression or a sentence.
        meta: Anything else; plain values.
        phash: Perceptual hash of the image, 64 bits as a signed integer, or None where not computed.
        width_px: Width of the image or video, or None where unknown.
        height_px: Its height.
        duration_s: Length of the audio or video in seconds, or None.
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
        """Content id: SHA-256 over media bytes, texts, regions, 32 hex digits; where it lies does not count.

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
        """Which fields this sample holds, in the order of `sensorium.core.types.FIELDS`."""
        return tuple(name for name, attribute in COLUMN_OF.items() if getattr(self, attribute))

    @property
    def default_group(self) -> str:
        """The group of a sample that names none: its main caption normalised, or else its id."""
        english = [caption.text for caption in self.texts if caption.language.split("-")[0] == "en"]
        captions = [normalise(text) for text in english or [caption.text for caption in self.texts]]
        return next((caption for caption in captions if caption), self.id)

    def _parts(self) -> Iterator[bytes | None]:
        """Media and texts in a fixed order; lists begin with their length, so no two contents coincide."""
        yield from (self.image, self.audio, self.video)
        yield str(len(self.speech)).encode()
        for clip in self.speech:
            yield from (_bytes(clip.language), clip.data)
        yield str(len(self.texts)).encode()
        for caption in self.texts:
            yield from (_bytes(caption.language), _bytes(caption.text))
        if self.regions:  # a sample without any keeps the id it had before there were regions
            yield str(len(self.regions)).encode()
            for region in self.regions:
                place = repr((region.start, region.end, region.boxes)).encode()
                yield from (_bytes(region.text), place)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def normalise(text: str) -> str:
    r"""Lower-case letters and digits of `text`, single spaces between words, in any script.

    Example:
        >>> normalise("  A Frog,\n(green) ")
        'a frog green'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (char if unicodedata.category(char)[0] in "LMN" else " " for char in folded)
    return " ".join("".join(kept).split())


def asked_of(field: str, asked: Sequence[str]) -> tuple[str, ...]:
    """Languages that are asked of one field.

    Args:
        field: `text` or `speech`.
        asked: Codes such as `en`, with `*` for anything (`en*` takes `en-GB` too, which `en` does not);
            `speech:fr` is asked of speech alone. A field of which nothing is asked takes all languages.

    Example:
        >>> asked_of("text", ["text:en", "speech:fr"]), asked_of("speech", ["text:en"])
        (('en',), ())
    """
    parts = [entry.rpartition(":") for entry in asked]
    return tuple(sorted(code for name, _, code in parts if name in ("", field)))


def is_asked(language: str, field: str, asked: Sequence[str]) -> bool:
    """Whether a caption or clip of this language is taken; one whose language is unknown always is.

    Example:
        >>> [is_asked(code, "text", ["en*"]) for code in ("en-GB", "fr", "")]
        [True, False, True]
    """
    codes = asked_of(field, asked)
    return not codes or not language or any(fnmatchcase(language, code) for code in codes)
