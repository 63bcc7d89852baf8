"""Local costs, computed in panels of rows on demand, so that the n x m matrix is never stored.

Input: series prepared by `metrics`. Output: panels for the recurrence and single cells, in multiples of a
unit that is a power of two. Squared distances of wide elements use a matrix product, |x|^2 + |y|^2 - 2xy.
That form cancels digits for near neighbours. Therefore rows are centred, and cells with a cost below `NEAR`
of |x|^2 + |y|^2 are recomputed from differences.

The unit follows the largest value, so nothing overflows, but much smaller costs may underflow. A path sum
below `floor` is recomputed with `finer` costs, which have a smaller unit and clip the largest costs to
`UNREACHED`. A path with such a small sum contains no clipped cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64

from sensorium.core.errors import UsageError
from sensorium.core.jit import compiled, unreached
from sensorium.dtw.cost_kernels import DIFFERENCES, FROM_PRODUCTS, differences, from_products
from sensorium.dtw.scaling import can_vanish, exponent_of, floor_of, scaled

NEAR = 1e-2
"""Below this fraction of |x|^2 + |y|^2 a cost from a matrix product is recomputed from differences."""
MOST_COST = 1e290
"""Greatest cost that a metric function may return; sums of a million stay below `UNREACHED`."""
FINER = 450
"""Difference of the exponents of successive units."""


@runtime_checkable
class Costs(Protocol):
    """Local costs of all pairs, computed in panels of rows.

    Attributes:
        shape: (n, m).
        dtype: float32 or float64, the type of the recurrence.
        exponent: Costs times 2^exponent are in the caller's units.
        floor: Cost, in units, above which no digits are lost by underflow.
    """

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def exponent(self) -> int: ...  # noqa: D102
    @property
    def floor(self) -> float: ...  # noqa: D102

    def finer(self) -> Costs | None:
        """The same costs with a smaller unit, for sums below `floor`; None if no digits are lost."""

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """Fill `out` with the costs of consecutive rows and columns."""

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """Costs of single cells."""

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """Costs of some rows with some columns."""


@dataclass(frozen=True)
class Differences:
    """Costs sum_d |x_d - y_d|^power, computed from differences.

    Attributes:
        x: Rows (n, D), divided by 2^scale.
        y: Rows (m, D), divided by 2^scale.
        power: 1 or 2.
        root: Whether the cost is the square root of the sum.
        scale: Exponent.
        given: x and y before scaling.
    """

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    power: int
    root: bool
    scale: int
    given: tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "m D"]]

    @classmethod
    def of(
        cls, x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "m D"], power: int, *, root: bool
    ) -> Differences:
        """Build from unscaled series."""
        scale = exponent_of(x, y)
        return cls(scaled(x, scale), scaled(y, scale), power, root, scale, (x, y))

    @property
    def exponent(self) -> int:
        """That of the elements, doubled for squares."""
        return self.scale if self.root or self.power == 1 else 2 * self.scale

    @property
    def floor(self) -> float:
        """By the least number of its type."""
        return floor_of(self.x.shape[1], self.dtype, root=self.root)

    def finer(self) -> Costs | None:
        """In float64, or in a smaller unit."""
        return _finer(*self.given, self.power, self.root, self.scale)

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
        sums: Float64[np.ndarray, " L"] = gaps.sum(axis=-1)
        return np.sqrt(sums) if self.root else sums

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """Axis by axis, in float64."""
        sums = np.zeros((len(rows), len(columns)))
        for axis in range(self.x.shape[1]):
            gaps = self.x[rows, axis, None].astype(np.float64) - self.y[columns, axis]
            sums += np.abs(gaps) ** self.power
        return np.sqrt(sums) if self.root else sums


@dataclass(frozen=True)
class Products:
    """Costs |x - y|^2, or the root, from a matrix product of centred rows; near cells from differences.

    Attributes:
        x: Original rows (n, D).
        y: Original rows (m, D).
        scale: Exponent; `ratio` is 2^-scale.
        x_centred: x times ratio, minus the mean of all rows.
        y_centred: The same for y, transposed.
        x_squares: Squared norms of the centred rows.
        y_squares: The same for y.
        root: Whether the cost is the root.
    """

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    scale: int
    x_centred: Float[np.ndarray, "n D"]
    y_centred: Float[np.ndarray, "D m"]
    x_squares: Float[np.ndarray, " n"]
    y_squares: Float[np.ndarray, " m"]
    root: bool

    @property
    def ratio(self) -> float:
        """What rows are multiplied by."""
        return float(2.0**-self.scale)

    @property
    def exponent(self) -> int:
        """That of the elements, doubled for squares."""
        return self.scale if self.root else 2 * self.scale

    @property
    def floor(self) -> float:
        """By the least number of its type."""
        return floor_of(self.x.shape[1], self.dtype, root=self.root)

    def finer(self) -> Costs | None:
        """In float64, or in a smaller unit."""
        return _finer(self.x, self.y, 2, self.root, self.scale)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.x), len(self.y)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the series."""
        return self.x.dtype

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """One matrix product, converted to costs."""
        np.matmul(self.x_centred[rows], self.y_centred[:, columns], out=out)
        kernel = compiled(from_products, FROM_PRODUCTS, self.dtype)
        squares = self.x_squares[rows], self.y_squares[columns]
        kernel(self.x[rows], self.y[columns], self.ratio, *squares, NEAR, int(self.root), out)

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """From the differences, in float64."""
        gaps = self.ratio * self.x[rows].astype(np.float64) - self.ratio * self.y[columns].astype(np.float64)
        squares: Float64[np.ndarray, " L"] = np.einsum("ij,ij->i", gaps, gaps)
        return np.sqrt(squares) if self.root else squares

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """One matrix product; near cells are not recomputed."""
        products = self.x_centred[rows] @ self.y_centred[:, columns]
        squares = self.x_squares[rows, None] + self.y_squares[columns] - 2 * products
        found: Float64[np.ndarray, "r c"] = np.maximum(squares, 0).astype(np.float64)
        return np.sqrt(found) if self.root else found


@dataclass(frozen=True)
class Saturated:
    """Costs of float64 series in a unit far below the largest cost; costs out of range are `UNREACHED`.

    Attributes:
        x: Rows (n, D) as they came.
        y: Rows (m, D).
        power: 1 or 2.
        root: Whether the cost is the square root of the sum.
        scale: Exponent that differences are divided by.
    """

    x: Float64[np.ndarray, "n D"]
    y: Float64[np.ndarray, "m D"]
    power: int
    root: bool
    scale: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.x), len(self.y)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64."""
        return self.x.dtype

    @property
    def exponent(self) -> int:
        """That of the differences, doubled for squares."""
        return self.scale if self.root or self.power == 1 else 2 * self.scale

    @property
    def floor(self) -> float:
        """By the least number of float64."""
        return floor_of(self.x.shape[1], self.dtype, root=self.root)

    def finer(self) -> Costs | None:
        """In a smaller unit."""
        return _finer(self.x, self.y, self.power, self.root, self.scale)

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """Axis by axis, in plain NumPy."""
        out[:] = self._costs(self.x[rows, None], self.y[None, columns])

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """Element by element."""
        return self._costs(self.x[rows], self.y[columns])

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """All pairs."""
        return self._costs(self.x[rows, None], self.y[None, columns])

    @np.errstate(over="ignore", under="ignore")
    def _costs(
        self, x: Float64[np.ndarray, "*left D"], y: Float64[np.ndarray, "*right D"]
    ) -> Float64[np.ndarray, "*cells"]:
        sums: Any = 0.0
        for axis in range(self.x.shape[1]):
            sums += np.ldexp(np.abs(x[..., axis] - y[..., axis]), -self.scale) ** self.power
        costs: Float64[np.ndarray, "*cells"] = np.sqrt(sums) if self.root else sums
        np.minimum(costs, unreached(self.dtype), out=costs)
        return costs


@dataclass(frozen=True)
class Given:
    """Precomputed costs, divided by 2^exponent; `UNREACHED` marks forbidden pairs."""

    values: Float[np.ndarray, "n m"]
    exponent: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the matrix."""
        return self.values.dtype

    @property
    def floor(self) -> float:
        """By the least number of its type."""
        return floor_of(1, self.dtype, root=False)

    def finer(self) -> Costs | None:
        """As they are, in float64."""
        if self.exponent <= 0 or not can_vanish(self.exponent, 1, self.values):
            return None
        return Given(self.values.astype(np.float64, copy=False), 0)

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """A copy, scaled."""
        np.multiply(self.values[rows, columns], self.dtype.type(2.0**-self.exponent), out=out)
        np.minimum(out, self.dtype.type(unreached(self.dtype)), out=out)

    def at(
        self, rows: Int64[np.ndarray, " L"], columns: Int64[np.ndarray, " L"]
    ) -> Float64[np.ndarray, " L"]:
        """Single values."""
        return self._scaled(self.values[rows, columns])

    def grid(
        self, rows: Int64[np.ndarray, " r"], columns: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, "r c"]:
        """A part of the matrix."""
        return self._scaled(self.values[np.ix_(rows, columns)])

    def _scaled(self, values: Float[np.ndarray, "*cells"]) -> Float64[np.ndarray, "*cells"]:
        return scaled(values.astype(np.float64), self.exponent)


@dataclass(frozen=True)
class Called:
    """Costs from the caller's metric function of two blocks, in float64 without scaling."""

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    exponent: int = 0
    floor: float = 0.0

    def finer(self) -> Costs | None:
        """None: nothing is scaled."""
        return None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.x), len(self.y)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64, because the function's result type is unknown."""
        return np.dtype(np.float64)

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
        return self._costs(self.x[rows], self.y[columns])

    def _costs(self, x: Float[np.ndarray, "k D"], y: Float[np.ndarray, "w D"]) -> Float64[np.ndarray, "k w"]:
        found = np.asarray(self.function(x, y))
        if found.shape != (len(x), len(y)):
            raise UsageError(
                f"the metric gave shape {found.shape} for blocks {x.shape} and {y.shape}; "
                f"it must give {(len(x), len(y))}, one cost a pair"
            )
        if found.dtype.kind not in "fiub":
            raise UsageError(f"the metric gave {found.dtype}; it must give real numbers")
        found = found.astype(np.float64, copy=False)
        if not ((found >= 0) & (found < MOST_COST)).all():
            raise UsageError(f"the metric gave a cost that is not between 0 and {MOST_COST:g}; mend it first")
        return found


@dataclass(frozen=True)
class Part:
    """A range of consecutive columns of other costs."""

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
    def exponent(self) -> int:
        """That of the whole."""
        return self.whole.exponent

    @property
    def floor(self) -> float:
        """That of the whole."""
        return self.whole.floor

    def finer(self) -> Costs | None:
        """The same part of the whole's."""
        finer = self.whole.finer()
        return None if finer is None else Part(finer, self.first, self.last)

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


def row_in_units(costs: Costs) -> Float64[np.ndarray, " m"]:
    """Costs of the first element of x with all of y, in the caller's units; infinite beyond float64.

    The smallest cost has full precision.
    """
    with np.errstate(over="ignore"):
        row = _row(costs)
        found: Float64[np.ndarray, " m"] = np.ldexp(row, costs.exponent)
        while row.min() < costs.floor and (finer := costs.finer()) is not None:
            costs, row = finer, _row(finer)
            is_reached = row < unreached(costs.dtype)
            found[is_reached] = np.ldexp(row[is_reached], costs.exponent)
    return found


def _row(costs: Costs) -> Float64[np.ndarray, " m"]:
    row = np.empty((1, costs.shape[1]), costs.dtype)
    costs.panel(slice(0, 1), slice(0, costs.shape[1]), row)
    found: Float64[np.ndarray, " m"] = row[0].astype(np.float64)
    return found


def _finer(
    x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "m D"], power: int, root: bool, scale: int
) -> Differences | Saturated | None:
    if not can_vanish(scale, power, x, y):
        return None
    if x.dtype != np.float64:
        return Differences.of(x.astype(np.float64), y.astype(np.float64), power, root=root)
    return Saturated(x, y, power, root, scale - FINER)
