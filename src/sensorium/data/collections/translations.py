"""Translations: about 20,000 short texts in up to twelve languages.

Input: captions of stamps, Unicode's names of emoji (CLDR), and messages of gettext catalogues of Debian
packages. Output: one sample per English text with its translations; `group` is the normalised English text,
`source` is `cldr`, `catalogues`, `stamps` or `stamps-held-out`. A hash of the text puts two fifths of the
stamps' captions into `stamps-held-out`; no other source contains their texts. Languages have the shortest
tag: `zh` is simplified Chinese, `pt` Brazilian Portuguese.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.collections import emoji, stamps
from sensorium.data.collections.gettext import plain_pairs, read_catalogue
from sensorium.data.collections.packages import Package, fetch
from sensorium.data.loading.split import split
from sensorium.data.table.sample import Caption, Sample, normalise

NAME = "translations"
DESCRIPTION = "The same in twelve languages: captions of stamps, names of emoji, messages of programs"
LICENCE = "each row states its source's"
LANGUAGES = ("en", "fr", "es", "de", "zh", "it", "nl", "pt", "pl", "sv", "ru", "ja")
HELD_OUT = f"{stamps.NAME}-held-out"
_HELD_OUT_SHARE, _SEED = 0.4, 0
_TAGS = {"zh-CN": "zh", "pt-BR": "pt"}
"""Tags of the stamps that differ from ours; their `pt` (European) is used if there is no Brazilian text."""
_LOCALES = {"zh": "zh_CN", "pt": "pt_BR"}
_CLDR_LICENCE = "Unicode-3.0"


@dataclass(frozen=True)
class Catalogues:
    """Gettext catalogues of one Debian package: file names without suffix, and the stated licence."""

    package: Package
    domains: tuple[str, ...]
    licence: str


def _catalogues(
    name: str, version: str, sha256: str, num_megabytes: int, domains: tuple[str, ...], licence: str
) -> Catalogues:
    keep = ("usr/share/locale/", f"usr/share/doc/{name}/")
    return Catalogues(Package("deb", name, version, sha256, num_megabytes, keep), domains, licence)


CATALOGUES = (
    _catalogues(
        "tuxpaint-data",
        "1:0.9.28-sdl2-1",
        "f5d0de8f9a70d2efc1241d19f26168cb8bf279f1b77abd3631e7a1a55c40e5e5",
        8,
        ("tuxpaint",),
        "GPL-2.0-or-later",
    ),
    _catalogues(
        "iso-codes",
        "4.15.0-1",
        "b1beb869303229c38288d4ddacfd582c91f594759b5767c9cecebd87f16ff70e",
        3,
        ("iso_3166-1", "iso_639-2", "iso_4217", "iso_15924"),
        "LGPL-2.1-or-later",
    ),
    _catalogues(
        "gnucash-common",
        "1:4.13-1",
        "8477b415856eb671125ee63ac6a4ee1d23efeca3de6e55e5a14c6ebb32642b31",
        5,
        ("gnucash",),
        "GPL-2.0-or-later",
    ),
    _catalogues(
        "gimp-data",
        "2.10.34-1+deb12u10",
        "89007a69d4ef2b0440e5419e75d4112cfd1c49e97db38220d210b9f86322be7c",
        14,
        ("gimp20", "gimp20-std-plug-ins"),
        "GPL-3.0-or-later",
    ),
    _catalogues(
        "gnome-control-center-data",
        "1:43.6-2~deb12u1",
        "f76430c1f6db2be884bbc0e37cfa43752b49d252abb94d9cce494e8cdd8882a1",
        4,
        ("gnome-control-center-2.0",),
        "GPL-2.0-or-later",
    ),
    _catalogues(
        "libgtk-3-common",
        "3.24.38-2~deb12u3",
        "f2642d127d85440acbfc2ed404d3932d8b2fbe8a576ead7f93f35ac1fa999c92",
        4,
        ("gtk30",),
        "LGPL-2.0-or-later",
    ),
    _catalogues(
        "coreutils",
        "9.1-1",
        "61038f857e346e8500adf53a2a0a20859f4d3a3b51570cc876b153a2d51a3091",
        3,
        ("coreutils",),
        "GPL-3.0-or-later",
    ),
)


def read(progress: Progress = quiet) -> Iterator[Sample]:
    """Download the packages if needed and yield the texts: stamps, names of emoji, messages.

    Raises:
        FetchError: If a package cannot be downloaded.
    """
    captions = list(stamps.read(progress))
    names = [fetch(package, progress) / "package" for package in emoji.ANNOTATIONS]
    folders = [fetch(one.package, progress) / "usr/share/locale" for one in CATALOGUES]
    found = [*of_stamps(captions), *of_cldr(names)]
    for one, folder in zip(CATALOGUES, folders, strict=True):
        found += of_catalogues(one, folder)
    yield from distinct(track(found, len(found), "reading translations", progress))


def distinct(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Samples that have a translation, only the first of each group."""
    seen: set[str | None] = {""}
    for sample in samples:
        if sample.group not in seen and len(sample.texts) > 1:
            seen.add(sample.group)
            yield sample


def of_stamps(pictures: Iterable[Sample]) -> list[Sample]:
    """Captions of stamps, the held-out ones first, so that `distinct` keeps these."""
    rows = [_sample(stamps.NAME, one.uri, one.texts, one.licence) for one in pictures]
    parts = split([str(row.group) for row in rows], test=_HELD_OUT_SHARE, seed=_SEED)
    held_out = [replace(rows[index], source=HELD_OUT) for index in parts["test"]]
    return held_out + [rows[index] for index in parts["train"]]


def of_cldr(folders: list[Path]) -> Iterator[Sample]:
    """Names of emoji and flags, without skin tones."""
    names = emoji.read_names(folders)
    for sign, (english, *_) in names["en"].items():
        if "skin tone" not in english:
            texts = [Caption(tag, names[tag][sign][0]) for tag in LANGUAGES if sign in names.get(tag, {})]
            uri = f"cldr:{'-'.join(f'{ord(char):x}' for char in sign)}"
            yield _sample("cldr", uri, texts, _CLDR_LICENCE)


def of_catalogues(one: Catalogues, folder: Path) -> Iterator[Sample]:
    """Messages of a package with their translations."""
    for domain in one.domains:
        by_text: dict[str, list[Caption]] = {}
        for tag in LANGUAGES[1:]:
            path = folder / _LOCALES.get(tag, tag) / "LC_MESSAGES" / f"{domain}.mo"
            pairs = plain_pairs(read_catalogue(path)) if path.exists() else {}
            for text, translation in pairs.items():
                by_text.setdefault(text, [Caption("en", text)]).append(Caption(tag, translation))
        for text, captions in by_text.items():
            yield _sample("catalogues", f"{domain}:{text}", captions, one.licence)


def _sample(source: str, uri: str, texts: Iterable[Caption], licence: str) -> Sample:
    """The first text of each language, English first."""
    by_tag: dict[str, str] = {}
    for caption in sorted(texts, key=lambda caption: caption.language not in _TAGS):
        by_tag.setdefault(_TAGS.get(caption.language, caption.language), caption.text)
    kept = [Caption(tag, by_tag[tag]) for tag in LANGUAGES if by_tag.get(tag)]
    group = normalise(by_tag.get("en", ""))
    return Sample(f"{NAME}:{uri}", texts=kept, group=group, source=source, licence=licence)
