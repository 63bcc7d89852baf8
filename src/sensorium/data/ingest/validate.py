"""Turns an item into rows: reads its bytes, detects the kind by content, decodes and measures each medium.

Input: an `Item`. Output: an `Outcome` with the samples, and a `Failure` for each medium that cannot be used.
Runs in worker processes, so it imports neither torch nor Lance. The content of captions is not checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sensorium import media
from sensorium.core.errors import MediaError
from sensorium.data.curation.phash import perceptual_hash
from sensorium.data.ingest.sources.item import Blob, Failure, Item, one_line
from sensorium.data.ingest.sources.lines import is_unicode
from sensorium.data.table.sample import Caption, Clip, Sample

if TYPE_CHECKING:
    from sensorium.media import Limits

STAMP = "stamp"
"""Metadata key of the item's fingerprint: a later run does not read an item with a known stamp."""

_HASH_PX = 64


@dataclass(frozen=True)
class Outcome:
    """The result for one item.

    Attributes:
        item: The item, without bytes.
        samples: Rows; more than one if the item has several media of one kind.
        failures: Media that could not be used.
    """

    item: Item
    samples: tuple[Sample, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass
class _Row:
    """A sample under construction."""

    media: dict[str, bytes] = field(default_factory=dict)
    speech: list[Clip] = field(default_factory=list)
    texts: list[Caption] = field(default_factory=list)
    measures: dict[str, int | float | None] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    uri: str = ""


@dataclass(frozen=True)
class _Part:
    """One decoded medium: the field that it fills (`kind`) and its measurements."""

    kind: str
    data: bytes = b""
    text: str = ""
    measures: dict[str, int | float | None] = field(default_factory=dict)
    is_settled: bool = True


def validate(item: Item, limits: Limits, isolate: bool = False) -> Outcome:
    """Read, decode and measure all media of an item; never raises.

    Args:
        item: The item.
        limits: Limits of each medium.
        isolate: Decode each medium in a subprocess with a memory limit.
    """
    try:
        return _validate(item, limits, isolate)
    except Exception as error:  # no item may stop the run
        reason = one_line(f"{type(error).__name__}: {error}")
        return Outcome(without_bytes(item), failures=(Failure(item.uri, "parse", reason),))


def without_bytes(item: Item) -> Item:
    """The item without inline bytes, to send it back over a pipe."""
    return replace(item, blobs=tuple(replace(blob, data=None) for blob in item.blobs))


def _validate(item: Item, limits: Limits, isolate: bool) -> Outcome:
    rows = [_Row()]
    failures: list[Failure] = []
    is_settled = True
    for blob in item.blobs:
        part = _check(blob, limits, isolate)
        if isinstance(part, Failure):
            failures.append(part)
            continue
        is_settled = is_settled and part.is_settled
        _assign(rows, blob, part)
    has_media = bool(item.blobs)
    made = [row for row in rows if row.media or row.speech or row.texts or (item.texts and not has_media)]
    stamp = item.stamp if is_settled and not failures and len(made) == 1 else ""
    samples = tuple(_sample(item, row, stamp) for row in made)
    if not all(map(_is_unicode, samples)):
        samples, reason = (), "a name or text is not Unicode: it has half of a surrogate pair"
        failures.append(Failure(item.uri, "parse", reason))
    return Outcome(without_bytes(item), samples, tuple(failures))


def _check(blob: Blob, limits: Limits, isolate: bool) -> _Part | Failure:
    stage = "read"
    try:
        data, is_settled = blob.read(limits.file_bytes)
        stage = "probe"
        header = media.probe(data, limits=limits)
        _refuse_other_kind(blob, header.kind)
        stage = "decode"
        opened = media.open(data, limits=limits, isolate=isolate, target_px=_HASH_PX)
        measures: dict[str, int | float | None] = {
            "width_px": header.width_px,
            "height_px": header.height_px,
            "duration_s": header.duration_s,
        }
        if isinstance(opened, media.Text):
            return _Part("text", text=opened.text.strip(), is_settled=is_settled)
        if isinstance(opened, media.Image):
            measures = {**measures, "duration_s": None, "phash": perceptual_hash(opened.pixels)}
        elif isinstance(opened, media.Audio):
            measures = {"duration_s": len(opened.samples) / opened.sample_rate_hz}
        return _Part("speech" if blob.field == "speech" else header.kind, data, "", measures, is_settled)
    except MediaError as error:
        return Failure(blob.uri, stage, one_line(error))
    except MemoryError:
        return Failure(blob.uri, stage, "needs more memory than the limit")
    except Exception as error:  # decoders raise many types; no medium may stop the run
        return Failure(blob.uri, stage, one_line(f"{type(error).__name__}: {error}"))


def _refuse_other_kind(blob: Blob, kind: str) -> None:
    if kind == "text" and blob.field != "text":
        raise MediaError("plain text, not media; rename a text file to .txt")
    if blob.field == "speech" and kind != "audio":
        raise MediaError(f"contains {kind}; expected audio (a spoken caption)")


def _assign(rows: list[_Row], blob: Blob, part: _Part) -> None:
    """Put a medium into the first row that has none of its kind."""
    if part.kind == "text":
        rows[0].texts.extend([Caption("", part.text)] if part.text else [])
        rows[0].uri = rows[0].uri or blob.uri
        return
    if part.kind == "speech":
        rows[0].speech.append(Clip(blob.language, part.data))
        rows[0].uri = rows[0].uri or blob.uri
        return
    row = next((row for row in rows if part.kind not in row.media), None)
    if row is None:
        rows.append(row := _Row())
    row.media[part.kind] = part.data
    if row.uri:
        row.meta[f"{part.kind}_uri"] = blob.uri
    row.uri = row.uri or blob.uri
    for name, value in part.measures.items():
        if row.measures.get(name) is None:
            row.measures[name] = value


def _sample(item: Item, row: _Row, stamp: str) -> Sample:
    captions = [Caption(language, text) for language, text in item.texts]
    return Sample(
        uri=row.uri or item.uri,
        image=row.media.get("image"),
        audio=row.media.get("audio"),
        video=row.media.get("video"),
        speech=tuple(row.speech),
        texts=tuple(dict.fromkeys([*captions, *row.texts])),
        regions=item.regions if "image" in row.media else (),
        group=item.group,
        source=item.source,
        licence=item.licence,
        meta={**item.meta, **row.meta, **({STAMP: stamp} if stamp else {})},
        **row.measures,  # type: ignore[arg-type]  # names and types are those of `_check`
    )


def _is_unicode(sample: Sample) -> bool:
    """Whether all texts of a row can be stored."""
    texts = [
        sample.uri,
        sample.group or "",
        sample.source,
        sample.licence,
        *sample.meta,
        *sample.meta.values(),
    ]
    texts += [part for caption in sample.texts for part in (caption.language, caption.text)]
    texts += [clip.language for clip in sample.speech] + [region.text for region in sample.regions]
    return all(is_unicode(text) for text in texts if isinstance(text, str))
