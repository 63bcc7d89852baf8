"""The held-out split of a table: by share of its groups, or by whole sources.

In: a table and the recipe's `test`. Out: rows that train, and held-out rows by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import ConfigError, TrainingError
from sensorium.data.loading.split import split
from sensorium.data.table.table import Table
from sensorium.training.recipe import HeldOut

Rows = Int64[np.ndarray, " n"]


def divide(
    table: Table, test: float | HeldOut, seed: int, name: str = "held out"
) -> tuple[Rows, dict[str, Rows]]:
    """Divide the rows of a table; both parts are ascending.

    Args:
        table: To divide.
        test: Share of the groups, or the sources to hold out.
        seed: Names the groups that are held out.
        name: Name of the held-out rows if `test` is a share; sources keep their own names.

    Returns:
        Rows that train, and held-out rows by name.

    Raises:
        ConfigError: If a source does not occur.
    """
    if not isinstance(test, HeldOut):
        parts = split(table.groups, test=test, seed=seed)
        return parts["train"], {name: parts["test"]}
    sources = np.array(table.column("source"))
    check_sources(table, test.sources)
    train = np.flatnonzero(~np.isin(sources, test.sources))
    return train, {source: np.flatnonzero(sources == source) for source in test.sources}


def check_sources(table: Table, asked: list[str]) -> None:
    """Refuse sources that no row has.

    Raises:
        ConfigError: With the sources that there are.
    """
    known = set(table.column("source"))
    unknown = set(asked) - known
    if unknown:
        raise ConfigError(
            f"{table.path}: no row has source '{min(unknown)}'; known: {', '.join(sorted(known))}"
        )


def check_rows(name: str, train: Rows, test: Mapping[str, Rows], kind: str = "rows") -> None:
    """Refuse to train on nothing, or to measure nothing.

    Raises:
        TrainingError: With the counts.
    """
    if len(train) and test and all(len(rows) for rows in test.values()):
        return
    counts = ", ".join(f"{called} {len(rows)}".strip() for called, rows in test.items())
    raise TrainingError(
        f"{name}: {len(train)} {kind} train, held out: {counts or 'none'}; both must be some: hold out "
        "another share with --set data.test=0.5, or give more rows"
    )
