"""Converts input series and a metric to local costs.

Input: two series, (n,) or (n, D) each, as arrays, tensors or lists, and a metric; or a cost matrix. Output:
`Costs`. Narrow elements are compared by differences. Wide elements use a matrix product if the metric is
Euclidean or cosine (see `costs`). Data are scaled by an exact power of two, so that no square overflows;
`Costs.exponent` undoes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.dtw.costs import Costs, Products, of_differences, of_function, of_matrix, of_series
from sensorium.dtw.scaling import exponent_of, scaled

Series: TypeAlias = Shaped[np.ndarray, "_ ..."] | Shaped[Tensor, "_ ..."] | list[Any] | tuple[Any, ...]
Metric: TypeAlias = str | Callable[[np.ndarray, np.ndarray], np.ndarray]
METRICS = ("sqeuclidean", "euclidean", "cityblock", "cosine", "precomputed")
NARROW = 8
"""Elements up to this width use differences, which are exact and no slower than a product."""
MOST_EXPONENT_OF_SUMS = 900
"""Values beyond this power of two are scaled before summation."""
MOST_EXPONENT_OF_ROWS = 40
"""Rows within this many powers of two of 1 need no scaling before their squared length is computed."""


def as_series(name: str, values: Series) -> Float[np.ndarray, "n D"]:
    """Convert a series to a contiguous float32 or float64 matrix, one row per element; (n,) becomes (n, 1).

    float32 and narrower floats become float32; all other types become float64.

    Raises:
        UsageError: If it is empty, not numeric, not finite, or not one- or two-dimensional.
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
    """Build the local costs of two series, or of the matrix `x` if the metric is `precomputed`.

    Args:
        x: Series (n,) or (n, D); or costs (n, m) if precomputed, infinite for forbidden pairs.
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
        return of_function(left, right, metric)
    if metric not in METRICS:
        raise UsageError(f"metric '{metric}' is not known; use one of {', '.join(METRICS)} or a function")
    if metric == "cosine":
        return _products(_directions("x", left), _directions("y", right), root=False)
    power = 1 if metric == "cityblock" or (left.shape[1] == 1 and metric == "euclidean") else 2
    if power == 1 or left.shape[1] <= NARROW:
        return of_differences(left, right, power, root=power == 2 and metric == "euclidean")
    return _products(left, right, root=metric == "euclidean")


def as_pair(
    x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "m E"]
) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "m E"]]:
    """Convert both series to the wider of their float types; UsageError if their widths differ."""
    if x.shape[1] != y.shape[1]:
        raise UsageError(f"x has elements of width {x.shape[1]}, y of width {y.shape[1]}; they must agree")
    dtype = np.result_type(x, y)
    return x.astype(dtype, copy=False), y.astype(dtype, copy=False)


def _products(x: np.ndarray, y: np.ndarray, *, root: bool) -> Costs:
    """Rows over 2^scale less the mean of all, so that |x|^2 + |y|^2 is no larger than it has to be."""
    scale = exponent_of(x, y)
    ratio = x.dtype.type(2.0**-scale)
    early, late = (scale, 0) if abs(scale) > MOST_EXPONENT_OF_SUMS else (0, scale)
    rows = (scaled(one, early) if early else one for one in (x, y))
    sums = sum(np.einsum("ij->j", one, dtype=np.float64, casting="safe") for one in rows)
    middle = (sums / (len(x) + len(y)) * 2.0**-late).astype(x.dtype)
    x_centred = x * ratio
    x_centred -= middle
    y_columns = np.multiply(y.T, ratio, order="C")
    y_columns -= middle[:, None]
    x_squares = np.einsum("ij,ij->i", x_centred, x_centred)
    y_squares = np.einsum("ij,ij->j", y_columns, y_columns)
    source = Products(x, y, 2.0**-scale, x_centred, y_columns, x_squares, y_squares, root)
    return of_series(source, (x, y), 2, root=root, scale=scale)


def _directions(name: str, rows: np.ndarray) -> np.ndarray:
    """Rows of squared length 1/2: the cosine distance is the squared distance of these."""
    most = np.abs(rows).max(axis=1)
    if not most.all():
        row = int(np.flatnonzero(most == 0)[0])
        raise UsageError(
            f"{name}[{row}] is all zeros and has no direction; use metric='euclidean' or drop it"
        )
    _, exponents = np.frexp(most)
    if np.abs(exponents).max() > MOST_EXPONENT_OF_ROWS:
        rows = np.ldexp(rows, -exponents[:, None])
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64, casting="safe"))
    directions: np.ndarray = rows * (np.sqrt(0.5) / lengths)[:, None].astype(rows.dtype)
    return directions


def _given(x: Series) -> Costs:
    values = _as_array("x", x)
    if values.ndim != 2 or 0 in values.shape:
        raise UsageError(
            f"the matrix of costs has shape {values.shape}; give (n, m) with n and m of 1 at least"
        )
    if not (values >= 0).all():
        raise UsageError(
            "the matrix of costs holds NaN or negative numbers; costs are 0 or more, "
            "+inf where a pair may not meet"
        )
    return of_matrix(values, exponent_of(np.where(np.isinf(values), 0, values)))


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
