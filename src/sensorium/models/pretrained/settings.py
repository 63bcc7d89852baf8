"""Checked access to values of foreign files: `config.json`, or the metadata of a GGUF file.

Input: values by key, and the name of their file. Output: sizes, numbers and flags within their ranges, or a
`CheckpointError` with file, key, found value and expectation. Null counts as absent.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import ItemsView, Mapping
from typing import Any

from sensorium.core.errors import CheckpointError

_MOST = 2**31 - 1
_MOST_SHOWN = 60


class Settings:
    """Checked access to values by key.

    Args:
        values: Values as read.
        source: Name of the file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self._values, self.source = values, source

    def get(self, key: str) -> Any:
        """Return an unchecked value; None if it is absent."""
        return self._values.get(key)

    def items(self) -> ItemsView[str, Any]:
        """Keys with their values."""
        return self._values.items()

    def size(self, key: str, default: int | None = None) -> int:
        """Return an integer from 1 to 2^31 - 1."""
        value = default if self.get(key) is None else self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise self.error(key, f"a whole number from 1 to {_MOST}")
        return value

    def optional_size(self, key: str) -> int | None:
        """Return a size; None if it is absent."""
        return None if self.get(key) is None else self.size(key)

    def number(self, key: str, default: float | None = None, *, least: float, most: float) -> float:
        """Return a number within its range, as a float."""
        value: Any = default if self.get(key) is None else self.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:  # NaN is within no range
            raise self.error(key, f"a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return true or false."""
        value = default if self.get(key) is None else self.get(key)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def refuse_unless(self, key: str, *neutral: object) -> None:
        """Raise `CheckpointError` unless a value is null or in `neutral`: others are not supported."""
        value = self.get(key)
        if value is not None and value not in neutral:
            raise CheckpointError(
                f"{self.source} has {key}={short_repr(value)}, which is not supported; use a model without it"
            )

    def error(self, key: str, expected: str) -> CheckpointError:
        """Return the error for a missing or unexpected value."""
        if self.get(key) is None:
            return CheckpointError(f"{self.source} lacks {key}; expected {expected}")
        return CheckpointError(f"{self.source} has {key}={short_repr(self.get(key))}; expected {expected}")


def short_repr(value: object) -> str:
    """Return a value for a message: its beginning, in one line.

    Example:
        >>> short_repr({"rope_theta": "abc"})
        "{'rope_theta': 'abc'}"
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**40:
        return f"a number of {round(math.log10(abs(value)))} digits"
    text = " ".join(reprlib.repr(value).split())
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."
