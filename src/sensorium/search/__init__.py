"""Query to hits: embedding, exact and approximate nearest neighbours, full text, relevance.

`Searcher(table, model).search("a red fruit")` is the entry. Names are loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensorium.search.query import Hit as Hit
    from sensorium.search.searcher import Searcher as Searcher

_HOME = {"Hit": "query", "Searcher": "searcher"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'sensorium.search' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"sensorium.search.{_HOME[name]}"), name)
    globals()[name] = value
    return value
