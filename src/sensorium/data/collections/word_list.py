"""English word list of SCOWL: about 75,000 words with inflected forms and names (Debian `wamerican`)."""

from __future__ import annotations

from pathlib import Path

from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections.packages import Package, fetch

LICENCE = "LicenseRef-SCOWL"
PACKAGE = Package(
    "deb",
    "wamerican",
    "2020.12.07-2",
    "c8f8e2b2ad0d37bfdd41f0e40f1e4c8e5f907467d768a1d3698b164e9617f0b4",
    num_megabytes=1,
    keep=("usr/share/dict/", "usr/share/doc/"),
)


def words(progress: Progress = quiet) -> list[str]:
    """Download the package if needed and return its words in order.

    Raises:
        FetchError: If the package cannot be downloaded.
    """
    return read_file(fetch(PACKAGE, progress) / "usr/share/dict/american-english")


def read_file(path: Path) -> list[str]:
    """Words of a list, one per line, without genitives ('s)."""
    return [word for word in path.read_text("utf-8").split() if not word.endswith("'s")]
