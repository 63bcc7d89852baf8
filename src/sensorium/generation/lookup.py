"""Guesses of what comes next: what followed when the last ids stood here before (prompt lookup).

Answers quote their prompt, code its names. The engine has the guesses scored in one step, together, and keeps
those that it would have chosen anyway, so the result is the same (speculative decoding, arXiv:2211.17192,
with a copy of the past for its small model).
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2
"""Ids that must have stood there before, in this order of trying."""


def guesses(written: Sequence[int], count: int) -> list[int]:
    """The up to `count` ids that followed the latest earlier place where the last ids stand.

    Example:
        >>> guesses([5, 6, 7, 8, 1, 5, 6], 2)
        [7, 8]
        >>> guesses([5, 6, 7], 2)
        []
    """
    for size in range(min(LONGEST, len(written) - 1), SHORTEST - 1, -1):
        last = list(written[-size:])
        for start in range(len(written) - size - 1, -1, -1):
            if written[start] == last[0] and list(written[start : start + size]) == last:
                return list(written[start + size : start + size + count])
    return []
