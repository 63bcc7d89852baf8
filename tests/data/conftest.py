"""Small tables with everything that a row can hold."""

from pathlib import Path

import pytest
from rich_rows import rich_sample

from sensorium.data.table.table import Table


@pytest.fixture
def rich_table(tmp_path: Path) -> Table:
    """53 rows."""
    table = Table.create(tmp_path / "rich.lance", description="Frogs.", licence="CC0-1.0")
    table.add(rich_sample(number) for number in range(53))
    return table
