"""Plain English sentences: the example sentences of WordNet, about 40,000.

In: the unpacked Debian package `wordnet-base`. Out: sentences as text; they are not samples of a table by
themselves, but what speech and other tables are made of. In a `data.*` file each line is a synset, its gloss
after `|`, its examples within the gloss in double quotes.
"""

from __future__ import annotations

import re
from pathlib import Path

from sensorium.core.runtime import Progress, quiet
from sensorium.data.packages import Package, fetch

LICENCE = "LicenseRef-WordNet-3.0"
PACKAGE = Package(
    "deb", "wordnet-base", "1:3.0-37", num_megabytes=6, keep=("usr/share/wordnet/", "usr/share/doc/")
)

_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
_EXAMPLE = re.compile(r'"([^"]+)"')
_PLAIN = re.compile(r"[A-Za-z][A-Za-z' ,;-]+[.!?]?")
_NUM_WORDS = range(4, 15)


def sentences(progress: Progress = quiet) -> list[str]:
    """Fetch the package where needed and return its sentences, each once, in the order of the files.

    Raises:
        FetchError: If the package cannot be fetched.
    """
    return read_folder(fetch(PACKAGE, progress) / "usr/share/wordnet")


def read_folder(folder: Path) -> list[str]:
    """Sentences of 4 to 14 words without digits or unusual signs, from a folder of WordNet's files."""
    found: dict[str, None] = {}
    for name in _FILES:
        for line in (folder / name).read_text("utf-8").splitlines():
            for example in _EXAMPLE.findall(line.partition("|")[2]):
                text = " ".join(example.split())
                if _PLAIN.fullmatch(text) and len(text.split()) in _NUM_WORDS:
                    found[_sentence(text)] = None
    return list(found)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
