"""Exact scaling by powers of two, which keeps sums of costs within the range of their float type.

Input: finite arrays. Output: the scaling exponent, whether scaled differences can underflow, and sums in the
caller's units.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from sensorium.core.errors import UsageError

_MOST_EXPONENT = {4: 126, 8: 1022}
"""By bytes of a float: powers of two up to this one are normal numbers, as are their reciprocals."""
_LEAST = {4: 2.0**-126, 8: 2.0**-1022}
"""Least normal number."""
_ROUNDING = {4: 2.0**-23, 8: 2.0**-52}
"""Distance from 1 to the next number."""


def exponent_of(*arrays: np.ndarray) -> int:
    """The least e for which no value exceeds 2^e in size, within what one multiplication can undo.

    >>> exponent_of(np.array([0.3, -5.0]))
    3
    """
    most = max(float(np.abs(array).max(initial=0)) for array in arrays)
    if most == 0:
        return 0
    share, exponent = math.frexp(most)
    bound = _MOST_EXPONENT[arrays[0].itemsize]
    return max(-bound, min(bound, exponent - (share == 0.5)))


def scaled(values: Float[np.ndarray, "*shape"], exponent: int) -> Float[np.ndarray, "*shape"]:
    """Values divided by 2^exponent, an exponent of `exponent_of`."""
    ratio = values.dtype.type(2.0**-exponent)
    found: Float[np.ndarray, "*shape"] = values * ratio
    return found


def can_vanish(exponent: int, power: int, *arrays: np.ndarray) -> bool:
    """Whether scaled differences, to this power, can underflow.

    Two values differ by at least a unit in the last place of the smaller, so the smallest nonzero value
    decides.
    """
    size = arrays[0].itemsize
    sizes = [np.abs(array) for array in arrays]
    least = min(float(one.min(initial=np.inf, where=one > 0)) for one in sizes)
    return bool(math.ldexp(least, -exponent) < _LEAST[size] ** (1 / power) / _ROUNDING[size])


def floor_of(width: int, dtype: np.dtype[Any], *, root: bool) -> float:
    """Cost above which the underflow of `width` squares or differences is below rounding error."""
    lost = width * _LEAST[dtype.itemsize]
    return (math.sqrt(lost) if root else lost) / _ROUNDING[dtype.itemsize]


def times_power_of_two(total: float, exponent: int) -> float:
    """Total * 2^exponent; infinite beyond the range of float64, 0 below it."""
    try:
        return math.ldexp(total, exponent)
    except OverflowError:
        return math.inf


def in_units(total: float, exponent: int) -> float:
    """Total * 2^exponent; UsageError where float64 cannot hold it."""
    found = times_power_of_two(total, exponent)
    if math.isinf(found) and not math.isinf(total):
        raise beyond_float64()
    if found == 0 and total > 0:
        digits = math.log10(total) + exponent * math.log10(2)
        raise UsageError(
            f"the distance is about 1e{digits:.0f}, too small for float64, which ends at 4.9e-324; "
            "multiply the series or costs by a constant first"
        )
    return found


def beyond_float64() -> UsageError:
    """The error for a distance above the range of float64."""
    return UsageError(
        "a distance is too large for float64, which ends at 1.8e308; "
        "divide the series or costs by a constant first, or use metric='euclidean' if it is 'sqeuclidean'"
    )
