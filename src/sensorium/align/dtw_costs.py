"""Local costs, filled by panels of rows on demand, so that the n x m matrix is never held.

In: what `metrics` made of the series. Out: panels for the recurrence in multiples of a unit, and single cells
in the caller's units. Squared distances of wide elements come from a matrix product, |x|^2 + |y|^2 - 2xy.
That form loses the digits in which near neighbours differ, so the rows are centred, and every cell whose cost
is less than `NEAR` of |x|^2 + |y|^2 is computed again from the differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64

from sensorium.align.kernels import compiled, unreached
from sensorium.align.kernels_cost import DIFFERENCES, FROM_PRODUCTS, differences, from_products
from sensorium.core.errors import UsageError

NEAR = 1e-2
"""Below this share of |x|^2 + |y|^2 a cost from a matrix product is computed again from the differences."""
MOST_COST = 1e20
"""Greatest cost that a caller's function may give: float32 sums of a million stay finite."""


@runtime_checkable
class Costs(Protocol):
    """Local costs of all pairs, by panels of rows.

    Attributes:
        shape: (n, m).
        dtype: float32 or float64, that of the recurrence over them.
        unit: What the costs are multiplied by to be in the caller's units.
    """

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def unit(self) -> float: ...  # noqa: D102

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """Fill `out` with the costs of consecutive rows and columns, in multiples of `unit`."""

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """Costs of single cells, in the caller's units."""

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """Costs of some rows with some columns, in the caller's units."""


@dataclass(frozen=True)
class Differences:
    """Costs from |x - y|^power, summed over the axes of an element."""

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    power: int
    root: bool
    unit: float

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.x), len(self.y)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the series."""
        return self.x.dtype

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """Differences of the rows with the columns, axis by axis."""
        kernel = compiled(differences, DIFFERENCES, self.dtype)
        y_columns = np.ascontiguousarray(self.y[columns].T)
        kernel(self.x[rows], y_columns, self.power, int(self.root), out)

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """The same in float64."""
        gaps = np.abs(self.x[rows].astype(np.float64) - self.y[columns]) ** self.power
        sums = gaps.sum(axis=-1)
        return _in_units(sums, self.root, self.unit)

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """Axis by axis, in float64."""
        sums = np.zeros((len(rows), len(columns)))
        for axis in range(self.x.shape[1]):
            gaps = self.x[rows, axis, None].astype(np.float64) - self.y[columns, axis]
            sums += np.abs(gaps) ** self.power
        return _in_units(sums, self.root, self.unit)


@dataclass(frozen=True)
class Products:
    """|x - y|^2, or its root, from products of centred rows; near cells from the rows themselves.

    Attributes:
        x: Rows (n, D); times `ratio`, they are in multiples of `unit`.
        y: Rows (m, D).
        ratio: A power of two.
        x_centred: x times ratio, less the mean of all rows.
        y_centred: The same of y, as columns.
        x_squares: Squared lengths of the centred rows.
        y_squares: The same of y.
        root: Whether the cost is the root.
        unit: Unit of the costs.
    """

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    ratio: float
    x_centred: Float[np.ndarray, "n D"]
    y_centred: Float[np.ndarray, "D m"]
    x_squares: Float[np.ndarray, " n"]
    y_squares: Float[np.ndarray, " m"]
    root: bool
    unit: float

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.x), len(self.y)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the series."""
        return self.x.dtype

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """One product, then the recurrence's form of it."""
        np.matmul(self.x_centred[rows], self.y_centred[:, columns], out=out)
        kernel = compiled(from_products, FROM_PRODUCTS, self.dtype)
        squares = self.x_squares[rows], self.y_squares[columns]
        kernel(self.x[rows], self.y[columns], self.ratio, *squares, NEAR, int(self.root), out)

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """From the differences, in float64."""
        gaps = self.ratio * (self.x[rows].astype(np.float64) - self.y[columns])
        return _in_units(np.einsum("ij,ij->i", gaps, gaps), self.root, self.unit)

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """One product; near cells are as rough as it is."""
        products = self.x_centred[rows] @ self.y_centred[:, columns]
        squares = self.x_squares[rows, None] + self.y_squares[columns] - 2 * products
        return _in_units(np.maximum(squares, 0).astype(np.float64), self.root, self.unit)


@dataclass(frozen=True)
class Given:
    """Costs that the caller computed; `UNREACHED` where a pair may not meet."""

    values: Float[np.ndarray, "n m"]
    unit: float

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the matrix."""
        return self.values.dtype

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """A copy, scaled."""
        np.divide(self.values[rows, columns], self.dtype.type(self.unit), out=out)
        out[~np.isfinite(out)] = unreached(self.dtype)

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """Single values."""
        costs: Float64[np.ndarray, " L"] = self.values[rows, columns].astype(np.float64)
        return costs

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """A part of the matrix."""
        costs: Float64[np.ndarray, "r c"] = self.values[np.ix_(rows, columns)].astype(np.float64)
        return costs


@dataclass(frozen=True)
class Called:
    """Costs from the caller's function of two blocks."""

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    unit: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.x), len(self.y)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the series."""
        return self.x.dtype

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """One call of the function."""
        out[:] = self._costs(self.x[rows], self.y[columns])

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """A call for each cell."""
        cells = zip(rows, columns, strict=True)
        found = [self._costs(self.x[i : i + 1], self.y[j : j + 1]) for i, j in cells]
        return np.array(found, dtype=np.float64).reshape(len(rows))

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """One call."""
        return self._costs(self.x[rows], self.y[columns]).astype(np.float64)

    def _costs(self, x: Float[np.ndarray, "k D"], y: Float[np.ndarray, "w D"]) -> Float[np.ndarray, "k w"]:
        found = np.asarray(self.function(x, y))
        if found.shape != (len(x), len(y)):
            raise UsageError(
                f"the metric gave shape {found.shape} for blocks {x.shape} and {y.shape}; "
                f"it must give {(len(x), len(y))}, one cost a pair"
            )
        if not ((found >= 0) & (found < MOST_COST)).all():
            raise UsageError(f"the metric gave a cost that is not between 0 and {MOST_COST:g}; mend it first")
        return found


@dataclass(frozen=True)
class Part:
    """Some consecutive columns of other costs."""

    whole: Costs
    first: int
    last: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, last - first)."""
        return self.whole.shape[0], self.last - self.first

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the whole."""
        return self.whole.dtype

    @property
    def unit(self) -> float:
        """That of the whole."""
        return self.whole.unit

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """The whole's, further right."""
        self.whole.panel(rows, slice(columns.start + self.first, columns.stop + self.first), out)

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """The whole's, further right."""
        return self.whole.at(rows, columns + self.first)

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """The whole's, further right."""
        return self.whole.grid(rows, columns + self.first)


def _in_units(sums: Float64[np.ndarray, "*cells"], root: bool, unit: float) -> Float64[np.ndarray, "*cells"]:
    costs: Float64[np.ndarray, "*cells"] = unit * (np.sqrt(sums) if root else sums)
    return costs
