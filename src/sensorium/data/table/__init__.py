"""Media tables: rows and their vectors in Lance datasets."""


def __getattr__(name: str) -> object:
    if name != "Table":
        raise AttributeError(f"module 'sensorium.data.table' has no attribute '{name}'")
    from sensorium.data.table.table import Table  # Lance is loaded on first use

    return Table
