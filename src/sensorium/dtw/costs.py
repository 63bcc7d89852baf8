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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64

from sensorium.core.errors import UsageError
from sensorium.core.jit import compiled, unreached
from sensorium.dtw.scaling import can_vanish, exponent_of, floor_of, scaled

Places: TypeAlias = Int64[np.ndarray, " L"]
Values: TypeAlias = Float64[np.ndarray, " L"]
Rows: TypeAlias = Int64[np.ndarray, " r"]
Columns: TypeAlias = Int64[np.ndarray, " c"]
Grid: TypeAlias = Float64[np.ndarray, "r c"]

NEAR = 1e-2
"""Below this fraction of |x|^2 + |y|^2 a cost from a matrix product is recomputed from differences."""
MOST_COST = 1e290
"""Greatest cost that a metric function may return; sums of a million stay below `UNREACHED`."""
FINER = 450
"""Difference of the exponents of successive units."""


@runtime_checkable
class CostSource(Protocol):
    """Computes local costs, in units."""

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """Fill `out` with the costs of consecutive rows and columns."""

    def at(self, rows: Places, columns: Places) -> Values:
        """Costs of single cells."""

    def grid(self, rows: Rows, columns: Columns) -> Grid:
        """Costs of some rows with some columns."""


@dataclass(frozen=True, eq=False)
class Costs:
    """Local costs of all pairs, with their size and unit.

    Attributes:
        source: Computes them.
        shape: (n, m).
        dtype: float32 or float64, the type of the recurrence.
        exponent: Costs times 2^exponent are in the caller's units.
        floor: Cost, in units, above which no digits are lost by underflow.
        make_finer: Makes the same costs with a smaller unit; None if no digits are lost.
        first: Column of the source that is column 0 here.
    """

    source: CostSource
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    exponent: int
    floor: float
    make_finer: Callable[[], Costs | None]
    first: int = 0

    def part(self, first: int, last: int) -> Costs:
        """The costs of columns first..last-1."""
        return replace(self, shape=(self.shape[0], last - first), first=self.first + first)

    def finer(self) -> Costs | None:
        """The same costs with a smaller unit, for sums below `floor`; None if no digits are lost."""
        finer = self.make_finer()
        return None if finer is None else finer.part(self.first, self.first + self.shape[1])

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """Fill `out` with the costs of consecutive rows and columns."""
        self.source.panel(rows, slice(columns.start + self.first, columns.stop + self.first), out)

    def at(self, rows: Places, columns: Places) -> Values:
        """Costs of single cells."""
        return self.source.at(rows, columns + self.first)

    def grid(self, rows: Rows, columns: Columns) -> Grid:
        """Costs of some rows with some columns."""
        return self.source.grid(rows, columns + self.first)


def of_series(
    source: CostSource,
    series: tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "m D"]],
    power: int,
    *,
    root: bool,
    scale: int,
) -> Costs:
    """Costs of two series (before scaling) whose elements `source` divides by 2^scale."""
    x, y = series
    exponent = scale if root or power == 1 else 2 * scale
    floor = floor_of(x.shape[1], x.dtype, root=root)
    finer = partial(_finer_series, x, y, power, root, scale)
    return Costs(source, (len(x), len(y)), x.dtype, exponent, floor, finer)


def of_differences(
    x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "m D"], power: int, *, root: bool
) -> Costs:
    """Costs of unscaled series, computed from differences."""
    scale = exponent_of(x, y)
    source = Differences(scaled(x, scale), scaled(y, scale), power, root)
    return of_series(source, (x, y), power, root=root, scale=scale)


def of_matrix(values: Float[np.ndarray, "n m"], exponent: int) -> Costs:
    """Given costs, divided by 2^exponent; `UNREACHED` marks forbidden pairs."""

    def finer() -> Costs | None:
        is_lossy = exponent > 0 and can_vanish(exponent, 1, values)
        return of_matrix(values.astype(np.float64, copy=False), 0) if is_lossy else None

    n, m = values.shape
    floor = floor_of(1, values.dtype, root=False)
    return Costs(Given(values, exponent), (n, m), values.dtype, exponent, floor, finer)


def of_function(
    x: Float[np.ndarray, "n D"],
    y: Float[np.ndarray, "m D"],
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Costs:
    """Costs from the caller's metric function; float64, because the function's result type is unknown."""
    source = Called(x, y, function)
    return Costs(source, (len(x), len(y)), np.dtype(np.float64), 0, 0.0, lambda: None)


@dataclass(frozen=True)
class Differences:
    """Costs sum_d |x_d - y_d|^power of scaled series, or the square root, computed from differences."""

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    power: int
    root: bool

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """Differences of the rows with the columns, axis by axis."""
        kernel = compiled(differences, DIFFERENCES, self.x.dtype)
        y_columns = np.ascontiguousarray(self.y[columns].T)
        kernel(self.x[rows], y_columns, self.power, int(self.root), out)

    def at(self, rows: Places, columns: Places) -> Values:
        """The same in float64."""
        gaps = np.abs(self.x[rows].astype(np.float64) - self.y[columns]) ** self.power
        sums: Values = gaps.sum(axis=-1)
        return np.sqrt(sums) if self.root else sums

    def grid(self, rows: Rows, columns: Columns) -> Grid:
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
        ratio: Power of two that rows are multiplied by.
        x_centred: x times ratio, minus the mean of all rows.
        y_centred: The same for y, transposed.
        x_squares: Squared norms of the centred rows.
        y_squares: The same for y.
        root: Whether the cost is the root.
    """

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    ratio: float
    x_centred: Float[np.ndarray, "n D"]
    y_centred: Float[np.ndarray, "D m"]
    x_squares: Float[np.ndarray, " n"]
    y_squares: Float[np.ndarray, " m"]
    root: bool

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """One matrix product, converted to costs."""
        np.matmul(self.x_centred[rows], self.y_centred[:, columns], out=out)
        kernel = compiled(from_products, FROM_PRODUCTS, self.x.dtype)
        squares = self.x_squares[rows], self.y_squares[columns]
        kernel(self.x[rows], self.y[columns], self.ratio, *squares, NEAR, int(self.root), out)

    def at(self, rows: Places, columns: Places) -> Values:
        """From the differences, in float64."""
        gaps = self.ratio * self.x[rows].astype(np.float64) - self.ratio * self.y[columns].astype(np.float64)
        squares: Values = np.einsum("ij,ij->i", gaps, gaps)
        return np.sqrt(squares) if self.root else squares

    def grid(self, rows: Rows, columns: Columns) -> Grid:
        """One matrix product; near cells are not recomputed."""
        products = self.x_centred[rows] @ self.y_centred[:, columns]
        squares = self.x_squares[rows, None] + self.y_squares[columns] - 2 * products
        found: Grid = np.maximum(squares, 0).astype(np.float64)
        return np.sqrt(found) if self.root else found


@dataclass(frozen=True)
class Saturated:
    """`Differences` of unscaled float64 series, divided by 2^scale; costs out of range are `UNREACHED`.

    The unit 2^scale is far below the largest cost.
    """

    x: Float64[np.ndarray, "n D"]
    y: Float64[np.ndarray, "m D"]
    power: int
    root: bool
    scale: int

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """Axis by axis, in plain NumPy."""
        out[:] = self._costs(self.x[rows, None], self.y[None, columns])

    def at(self, rows: Places, columns: Places) -> Values:
        """Element by element."""
        return self._costs(self.x[rows], self.y[columns])

    def grid(self, rows: Rows, columns: Columns) -> Grid:
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
        np.minimum(costs, unreached(self.x.dtype), out=costs)
        return costs


@dataclass(frozen=True)
class Given:
    """Precomputed costs, divided by 2^exponent; `UNREACHED` marks forbidden pairs."""

    values: Float[np.ndarray, "n m"]
    exponent: int

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """A copy, scaled."""
        number = self.values.dtype.type
        np.multiply(self.values[rows, columns], number(2.0**-self.exponent), out=out)
        np.minimum(out, number(unreached(self.values.dtype)), out=out)

    def at(self, rows: Places, columns: Places) -> Values:
        """Single values."""
        return scaled(self.values[rows, columns].astype(np.float64), self.exponent)

    def grid(self, rows: Rows, columns: Columns) -> Grid:
        """A part of the matrix."""
        return scaled(self.values[rows[:, None], columns].astype(np.float64), self.exponent)


@dataclass(frozen=True)
class Called:
    """Costs from the caller's metric function of two blocks, without scaling."""

    x: Float[np.ndarray, "n D"]
    y: Float[np.ndarray, "m D"]
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def panel(self, rows: slice, columns: slice, out: Float[np.ndarray, "k w"]) -> None:
        """One call of the function."""
        out[:] = self._costs(self.x[rows], self.y[columns])

    def at(self, rows: Places, columns: Places) -> Values:
        """A call for each cell."""
        cells = zip(rows, columns, strict=True)
        found = [self._costs(self.x[i : i + 1], self.y[j : j + 1]) for i, j in cells]
        return np.array(found, dtype=np.float64).reshape(len(rows))

    def grid(self, rows: Rows, columns: Columns) -> Grid:
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


def _finer_series(
    x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "m D"], power: int, root: bool, scale: int
) -> Costs | None:
    if not can_vanish(scale, power, x, y):
        return None
    if x.dtype != np.float64:
        return of_differences(x.astype(np.float64), y.astype(np.float64), power, root=root)
    source = Saturated(x, y, power, root, scale - FINER)
    return of_series(source, (x, y), power, root=root, scale=scale - FINER)


DIFFERENCES = "void(f[:, ::1], f[:, ::1], int64, int64, f[:, :])"


def differences(x, y_columns, power, root, out):  # type: ignore[no-untyped-def]
    """Sum over axes of |x - y|^power for x (k, D) and columns of y (D, w); square root if `root`."""
    for row in range(x.shape[0]):
        line = out[row]
        for column in range(line.size):
            line[column] = 0
        for axis in range(x.shape[1]):
            here = x[row, axis]
            others = y_columns[axis]
            if power == 1:
                for column in range(line.size):
                    line[column] += abs(here - others[column])
            else:
                for column in range(line.size):
                    gap = here - others[column]
                    line[column] += gap * gap
        if root == 1:
            for column in range(line.size):
                line[column] = np.sqrt(line[column])


FROM_PRODUCTS = "void(f[:, ::1], f[:, ::1], f, f[::1], f[::1], f, int64, f[:, ::1])"


def from_products(x, y, ratio, x_squares, y_squares, near, root, out):  # type: ignore[no-untyped-def]
    """Convert matrix products in `out` (k, w) to |x - y|^2, or its root.

    Products and squares are those of centred rows times `ratio`. x (k, D) and y (w, D) are the original rows.
    Cells below `near` times the sum of squares are recomputed from them.
    """
    width, zero = 256, near - near  # a literal 0 is an integer, which would make this float64
    for row in range(x.shape[0]):
        square = x_squares[row]
        for first in range(0, out.shape[1], width):
            part = out[row, first : first + width]
            others = y_squares[first : first + width]
            num_near = 0
            for column in range(part.size):
                total = square + others[column]
                value = total - (part[column] + part[column])
                num_near += value < near * total
                part[column] = value
            if num_near > 0:
                for column in range(part.size):
                    if part[column] < near * (square + others[column]):
                        value = zero
                        for axis in range(x.shape[1]):
                            gap = x[row, axis] * ratio - y[first + column, axis] * ratio
                            value += gap * gap
                        part[column] = value
            if root == 1:
                for column in range(part.size):
                    part[column] = np.sqrt(part[column])
