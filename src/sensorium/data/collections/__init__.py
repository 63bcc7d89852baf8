"""Ready collections from package registries: names to samples, and to finished media tables.

stamps        785 pictures with captions in 80 languages, sounds, spoken captions     Debian, 161 MB
clipart       6,900 drawings with titles and tags                                     Debian
emoji         9,442 pictures by five vendors, names in a hundred languages            npm
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
    """What a module of this folder, or of a plug-in, offers."""

    NAME: str
    DESCRIPTION: str
    LICENCE: str

    def read(self, progress: Progress = quiet) -> Iterator[Sample]:
        """Fetch what is needed and yield the samples, in an order that stays."""


COLLECTIONS: Registry[Collection] = Registry("collection")
"""What `samples` and `get` know, by name."""
for _module in (stamps, clipart, emoji, translations):
    COLLECTIONS.register(_module.NAME)(partial(lambda module: module, _module))


def samples(name: str, progress: Progress = quiet) -> Iterator[Sample]:
    """Fetch a collection and yield its samples.

    Args:
        name: One of `COLLECTIONS`.
        progress: Told about the downloads, then after each sample.

    Raises:
        NotFoundError: If no such collection is known.
        FetchError: If one of its packages cannot be fetched.
    """
    return COLLECTIONS.build(name).read(progress)


def get(name: str, path: Path | None = None, progress: Progress = quiet) -> Table:
    """Make the media table of a collection, or open it where it is finished.

    Args:
        name: One of `COLLECTIONS`.
        path: Where the table goes; the user's cache if None. A table that exists there gets what it lacks.
        progress: Told about the downloads, then after each sample.

    Raises:
        NotFoundError: If no such collection is known.
        FetchError: If one of its packages cannot be fetched.
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
    """Fill a neighbour of `target` and rename it: a table that is there is a finished one."""
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
