"""Old import paths of modules that moved, for scripts written before; they end with the next release.

Importing an old path warns (`DeprecationWarning`) and gives the names of the new module.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGES = {"data.sources": "data.ingest.sources", "data.sources.packages": "data.collections", "tasks": ""}
_MODULES = {
    "data.crew": "data.ingest.workers",
    "data.espeak": "data.collections.espeak",
    "data.packages": "data.collections.packages",
    "data.prepare": "data.ingest.prepare",
    "data.sources.cells": "data.ingest.sources.table_rows",
    "data.sources.litter": "data.ingest.sources.ignored_files",
    "data.sources.packages.languages": "data.collections.gettext",
    "data.sources.packages.prose": "data.collections.wordnet",
    "data.sources.packages.words": "data.collections.word_list",
    "tasks.align_series": "align.align_series",
    "tasks.align_speech": "align.forced_alignment",
    "tasks.assistant": "assistants.assistant",
    "tasks.card": "display.card",
    "tasks.chapters": "video.chapters",
    "tasks.embed": "models.embed",
    "tasks.evaluate": "training.evaluate",
    "tasks.load": "assistants.load",
    "tasks.page": "display.html_page",
    "tasks.search": "search.searcher",
    "tasks.sheet": "display.contact_sheet",
    "tasks.speech_plot": "align.plots",
    "tasks.subtitles": "media.timed_text",
    "tasks.summarize": "video.summarize",
    "tasks.train": "training.trainer",
    "tasks.transcribe": "speech.transcribe",
}


class _Moved(MetaPathFinder, Loader):
    """Finds old paths and fills them with the names of the new ones."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if _new_name(fullname) is None:
            return None
        is_package = fullname.removeprefix("sensorium.") in _PACKAGES
        return ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        new = _new_name(module.__name__)
        if not new:
            return
        where = f"sensorium.{new}"
        warnings.warn(f"{module.__name__} is {where} now", DeprecationWarning, stacklevel=2)
        found = vars(importlib.import_module(where))
        vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})


def _new_name(name: str) -> str | None:
    old = name.removeprefix("sensorium.") if name.startswith("sensorium.") else ""
    known = _PACKAGES | _MODULES
    if old in known:
        return known[old]
    parent, _, module = old.rpartition(".")
    is_within = parent in _PACKAGES and _PACKAGES[parent] != "" and module.isidentifier()
    return f"{_PACKAGES[parent]}.{module}" if is_within else None


def install() -> None:
    """Look old paths up after all others."""
    if not any(isinstance(one, _Moved) for one in sys.meta_path):
        sys.meta_path.append(_Moved())
