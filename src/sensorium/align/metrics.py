"""Local costs: what it costs to pair element i of one series with element j of another.

In: two series, (n,) or (n, D) each, arrays, tensors or lists; or a matrix of costs. Out: `Costs`, which fills
    panels of rows on demand, so that the n x m matrix is never held.

Squared Euclidean, Euclidean and cosine costs of wide elements come from a matrix product, |x|^2 + |y|^2 -
2xy. That form loses the digits in which near neighbours differ, so the data are centred first and every cell
whose cost is less than `NEAR` of |x|^2 + |y|^2 is computed again from the differences. Narrow elements always
go by differences. Data are scaled by a power of two, which is exact, so that no square overflows;
`Costs.unit` undoes it. Knows no recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from sensorium.align.kernels import compiled, unreached
from sensorium.align.kernels_cost import DIFFERENCES, FROM_PRODUCTS, differences, from_products
from sensorium.core.errors import UsageError

Series: TypeAlias = Shaped[np.ndarray, "_ ..."] | Shaped[Tensor, "_ ..."] | list[Any] | tuple[Any, ...]
Metric: TypeAlias = str | Callable[[np.ndarray, np.ndarray], np.ndarray]
METRICS = ("sqeuclidean", "euclidean", "cityblock", "cosine", "precomputed")
NEAR = 1e-2
"""Below this share of |x|^2 + |y|^2 a cost from a matrix product is computed again from the differences."""
NARROW = 8
"""Elements up to this wide are compared by differences: no slower than a product, and exact."""
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


def as_series(name: str, values: Series) -> Float[np.ndarray, "n D"]:
    """A series as a contiguous float32 or float64 matrix, one row an element.

    float32 and narrower floats become float32, all else float64, so that what is given in double precision is
    reckoned in double precision. (n,) becomes (n, 1).

    Raises:
        UsageError: If it is empty, not numeric, of another number of dimensions, or not finite.
    """
    found = _as_array(name, values)
    if found.ndim not in (1, 2) or 0 in found.shape:
        raise UsageError(f"{name} has shape {found.shape}; give (n,) or (n, D) with n and D of 1 at least")
    series = np.ascontiguousarray(found.reshape(len(found), -1))
    if not np.isfinite(series).all():
        row = int(np.flatnonzero(~np.isfinite(series).all(axis=1))[0])
        raise UsageError(f"{name}[{row}] is not finite; drop or mend such elements first")
    return series


def as_costs(x: Series, y: Series | None, metric: Metric) -> Costs:
    """Local costs of two series, or the matrix `x` itself if the metric is `precomputed`.

    Args:
        x: Series (n,) or (n, D); costs (n, m) if precomputed, infinite where a pair may not meet.
        y: Series (m,) or (m, D); None if precomputed.
        metric: One of `METRICS`, or a function from blocks (k, D) and (w, D) to costs (k, w).

    Raises:
        UsageError: If the series do not fit the metric or each other.
    """
    if metric == "precomputed":
        if y is not None:
            raise UsageError("metric='precomputed' takes the matrix of costs as x; leave y as None")
        return _given(x)
    if y is None:
        raise UsageError("y is missing; only metric='precomputed' does without it")
    left, right = as_pair(as_series("x", x), as_series("y", y))
    if callable(metric):
        return Called(left, right, metric)
    if metric not in METRICS:
        raise UsageError(f"metric '{metric}' is not known; use one of {', '.join(METRICS)} or a function")
    if metric == "cosine":
        return _products(_directions("x", left), _directions("y", right), root=False)
    power = 1 if metric == "cityblock" or (left.shape[1] == 1 and metric == "euclidean") else 2
    if power == 1 or left.shape[1] <= NARROW:
        return _differences(left, right, power, root=power == 2 and metric == "euclidean")
    return _products(left, right, root=metric == "euclidean")


def as_pair(
    x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "m E"]
) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "m E"]]:
    """Both in the wider of their float types.

    Raises:
        UsageError: If their elements differ in width.
    """
    if x.shape[1] != y.shape[1]:
        raise UsageError(f"x has elements of width {x.shape[1]}, y of width {y.shape[1]}; they must agree")
    dtype = np.result_type(x, y)
    return x.astype(dtype, copy=False), y.astype(dtype, copy=False)


def power_of_two(*arrays: np.ndarray) -> float:
    """The least power of two that no value of the arrays exceeds in size; dividing by it is exact."""
    most = max(float(np.abs(array).max(initial=0)) for array in arrays)
    return 1.0 if most == 0 else float(2.0 ** np.clip(np.ceil(np.log2(most)), -1000, 1000))


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
        return _in_units(np.einsum("nd,nd->n", gaps, gaps), self.root, self.unit)

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


def _differences(x: np.ndarray, y: np.ndarray, power: int, *, root: bool) -> Differences:
    scale = power_of_two(x, y)
    unit = scale if root or power == 1 else scale * scale
    return Differences(x / x.dtype.type(scale), y / y.dtype.type(scale), power, root, unit)


def _products(x: np.ndarray, y: np.ndarray, *, root: bool) -> Products:
    scale = power_of_two(x, y)
    x_centred, y_centred = _centred(x, y, x.dtype.type(1 / scale))
    squares = [np.einsum("nd,nd->n", rows, rows) for rows in (x_centred, y_centred)]
    y_columns = np.ascontiguousarray(y_centred.T)
    unit = scale if root else scale * scale
    return Products(x, y, 1 / scale, x_centred, y_columns, squares[0], squares[1], root, unit)


def _centred(x: np.ndarray, y: np.ndarray, ratio: np.floating[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Rows times ratio less their mean: so that |x|^2 + |y|^2 is no larger than it has to be."""
    sums = sum(np.einsum("nd->d", rows, dtype=np.float64, casting="safe") for rows in (x, y))
    middle = (sums / (len(x) + len(y)) * ratio).astype(x.dtype)
    x, y = x * ratio, y * ratio
    x -= middle
    y -= middle
    return x, y


def _directions(name: str, rows: np.ndarray) -> np.ndarray:
    """Rows of squared length 1/2: the cosine distance is the squared distance of these."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64, casting="safe"))
    if not lengths.all():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise UsageError(
            f"{name}[{row}] is all zeros and has no direction; use metric='euclidean' or drop it"
        )
    directions: np.ndarray = rows * (np.sqrt(0.5) / lengths)[:, None].astype(rows.dtype)
    return directions


def _given(x: Series) -> Given:
    values = _as_array("x", x)
    if values.ndim != 2 or 0 in values.shape:
        raise UsageError(
            f"the matrix of costs has shape {values.shape}; give (n, m) with n and m of 1 at least"
        )
    finite = np.isfinite(values)
    if not (values >= 0).all():
        raise UsageError(
            "the matrix of costs holds NaN or negative numbers; costs are 0 or more, "
            "+inf where a pair may not meet"
        )
    return Given(values, power_of_two(np.where(finite, values, 0)))


def _as_array(name: str, values: Series) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() and values.itemsize < 4 else values).numpy()
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"{name} is ragged; every element needs the same width") from error
    if found.dtype.kind not in "fiub":
        raise UsageError(f"{name} holds {found.dtype}; give real numbers")
    narrow = found.dtype.kind == "f" and found.dtype.itemsize <= 4
    return found.astype(np.float32 if narrow else np.float64, copy=False)
