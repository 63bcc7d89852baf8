"""Step patterns: the allowed moves of a warping path and their weights.

A pattern is a table of *productions*. A production leads from an earlier cell to the current one by one or
more moves. Each move advances di elements in x and dj in y, and adds `weight` times the cost of the cell it
enters. The first cell of a path has weight 1. `norm` names the divisor that makes distances of different
lengths comparable: `n+m`, or `n` (the length of x).

`symmetric1` is standard DTW. `symmetric2` counts diagonal moves twice. `asymmetric` uses each element of x
once and may skip elements of y. `rabiner-juang-4c` is type IV of the book's table with weighting c. A
trailing `s` (`4cs`) spreads a production's weight evenly over its moves.

Reference: Sakoe & Chiba 1978; Rabiner & Juang, Fundamentals of Speech Recognition (1993), sections
    4.7.2.4-4.7.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sensorium.core.errors import UsageError

Move: TypeAlias = tuple[int, int, float]
"""di, dj, weight."""


@dataclass(frozen=True)
class StepPattern:
    """A table of productions.

    Attributes:
        name: Name for error messages.
        productions: Each a sequence of moves (di, dj, weight), first move first; the first production wins
            ties.
        norm: `n+m`, `n`, or None if no divisor makes distances of different lengths comparable.

    Raises:
        UsageError: If there are no or more than 15 productions, or one does not advance.
    """

    name: str
    productions: tuple[tuple[Move, ...], ...]
    norm: Literal["n+m", "n"] | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.productions) <= 15:
            raise UsageError(
                f"step pattern '{self.name}' has {len(self.productions)} productions; give 1 to 15"
            )
        for moves in self.productions:
            backward = any(di < 0 or dj < 0 or di + dj == 0 for di, dj, _ in moves)
            if not moves or backward or any(not weight >= 0 for _, _, weight in moves):
                raise UsageError(
                    f"step pattern '{self.name}' has the production {moves}; every move must go on by 1 at "
                    "least and weigh 0 or more"
                )

    @property
    def diagonal_weight(self) -> float | None:
        """Weight of the diagonal move if the others are (1, 0) and (0, 1) with weight 1, else None."""
        if len(self.productions) != 3 or any(len(moves) != 1 for moves in self.productions):
            return None
        diagonal, up, left = (moves[0] for moves in self.productions)
        return diagonal[2] if diagonal[:2] == (1, 1) and (up, left) == ((1, 0, 1), (0, 1, 1)) else None

    def divisor(self, n: int, m: int) -> int | None:
        """Divisor that normalises a distance of series of lengths n and m; None if there is none."""
        return None if self.norm is None else n + m if self.norm == "n+m" else n


def _symmetric(name: str, diagonal: float, norm: Literal["n+m"] | None) -> StepPattern:
    return StepPattern(name, (((1, 1, diagonal),), ((1, 0, 1.0),), ((0, 1, 1.0),)), norm)


SYMMETRIC1 = _symmetric("symmetric1", 1.0, None)
SYMMETRIC2 = _symmetric("symmetric2", 2.0, "n+m")
ASYMMETRIC = StepPattern("asymmetric", (((1, 1, 1.0),), ((1, 0, 1.0),), ((1, 2, 1.0),)), "n")

_TYPES: tuple[tuple[tuple[tuple[int, int], ...], ...], ...] = (
    (((1, 1),), ((1, 0),), ((0, 1),)),
    (((1, 1),), ((1, 1), (1, 0)), ((1, 1), (0, 1))),
    (((1, 1),), ((2, 1),), ((1, 2),)),
    (((1, 1),), ((1, 1), (1, 0)), ((1, 2), (1, 0)), ((1, 2),)),
    (((1, 1),), ((1, 1), (1, 0), (1, 0)), ((1, 1), (1, 0)), ((1, 1), (0, 1)), ((1, 1), (0, 1), (0, 1))),
    (((1, 1),), ((1, 1), (1, 1), (1, 0)), ((1, 1), (1, 1), (0, 1))),
    tuple(((1, wide), *((1, 0),) * rest) for wide in (1, 2, 3) for rest in (0, 1, 2)),
)
"""Local path constraints, types I to VII."""


_WEIGHTINGS: dict[str, Callable[[int, int], int]] = {
    "a": min,
    "b": max,
    "c": lambda di, dj: di,
    "d": lambda di, dj: di + dj,
}


def rabiner_juang(
    kind: int, weighting: Literal["a", "b", "c", "d"] = "d", smoothed: bool = False
) -> StepPattern:
    """Build a pattern of Rabiner & Juang's table.

    Args:
        kind: Type of the local path constraint, 1 to 7.
        weighting: Weight of a move: a min(di, dj), b max(di, dj), c di, d di + dj.
        smoothed: Spread the weight of a production evenly over its moves.

    Raises:
        UsageError: If there is no such type or weighting.
    """
    if not 1 <= kind <= 7 or weighting not in ("a", "b", "c", "d"):
        raise UsageError(
            f"rabiner_juang({kind}, '{weighting}') does not exist; types are 1 to 7, weightings a to d"
        )
    weigh = _WEIGHTINGS[weighting]
    productions = []
    for steps in _TYPES[kind - 1]:
        weights = [float(weigh(di, dj)) for di, dj in steps]
        if smoothed:
            weights = [sum(weights) / len(weights)] * len(weights)
        productions.append(tuple((di, dj, weight) for (di, dj), weight in zip(steps, weights, strict=True)))
    name = f"rabiner-juang-{kind}{weighting}{'s' if smoothed else ''}"
    norms: dict[str, Literal["n", "n+m"]] = {"c": "n", "d": "n+m"}
    return StepPattern(name, tuple(productions), norms.get(weighting))


def step_pattern(step: str | StepPattern) -> StepPattern:
    """Look up a pattern by name; a `StepPattern` is returned unchanged.

    >>> step_pattern("symmetric2").divisor(5, 7)
    12

    Raises:
        UsageError: If the name is unknown.
    """
    if isinstance(step, StepPattern):
        return step
    found = re.fullmatch(r"rabiner-juang-([1-7])([abcd])(s?)", step)
    if found:
        kind, weighting, smoothed = found.groups()
        return rabiner_juang(int(kind), weighting, bool(smoothed))  # type: ignore[arg-type]
    known = {pattern.name: pattern for pattern in (SYMMETRIC1, SYMMETRIC2, ASYMMETRIC)}
    if step not in known:
        raise UsageError(
            f"step pattern '{step}' is not known; use {', '.join(known)}, rabiner-juang-4c (types 1 to 7, "
            "weightings a to d) or a StepPattern"
        )
    return known[step]
