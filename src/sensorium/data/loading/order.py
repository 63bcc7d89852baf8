"""The order of rows in each epoch, and reproducible random choices per row.

Every choice is a function of (seed, epoch, row). It does not depend on the number of workers, on where a run
was resumed, or on earlier random draws. So a position in training is three numbers, `LoaderState`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import FIELDS

_BUCKET_BATCHES = 32
"""Number of batches whose rows are sorted by size together."""


@dataclass(frozen=True)
class LoaderState:
    """A position in training: finished epochs, batches yielded in this epoch, seed of the order."""

    epoch: int
    offset: int
    seed: int


@dataclass(frozen=True)
class Order:
    """The order of rows in every epoch.

    Attributes:
        rows: Row numbers, (n,).
        batch_size: Rows in a batch.
        seed: Seed of all permutations.
        shuffle: Permute the rows in each epoch; otherwise keep the given order.
        drop_last: Drop the last batch if it is not full.
        sizes: Size of each row, e.g. in seconds. If given, rows are bucketed by size to reduce padding: the
            rows of each 32 batches are sorted by size, then the batches are shuffled.
    """

    rows: Int64[np.ndarray, " n"]
    batch_size: int
    seed: int
    shuffle: bool = True
    drop_last: bool = True
    sizes: Float64[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.seed < 0:
            raise UsageError(
                f"batch_size={self.batch_size}, seed={self.seed}; give at least 1 and at least 0"
            )
        if len(self) == 0 and len(self.rows):
            raise UsageError(f"batch_size={self.batch_size} is more than the {len(self.rows)} rows; lower it")

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def check(self, num_rows: int) -> None:
        """Check the row numbers.

        Raises:
            NotFoundError: If a row is not among 0..num_rows-1.
        """
        wrong = self.rows[(self.rows < 0) | (self.rows >= num_rows)]
        if len(wrong):
            raise NotFoundError(f"no row {wrong[0]}; there are rows 0 to {num_rows - 1}")

    def permuted(self, epoch: int) -> Int64[np.ndarray, " n"]:
        """All rows in the order of an epoch."""
        if not self.shuffle:
            return self.rows
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        if self.sizes is None:
            return rng.permutation(self.rows)
        order = rng.permutation(len(self.rows))
        bucket = _BUCKET_BATCHES * self.batch_size
        for start in range(0, len(order), bucket):
            part = order[start : start + bucket]
            full = part[: len(part) // self.batch_size * self.batch_size]
            batches = full[np.argsort(self.sizes[full], kind="stable")].reshape(-1, self.batch_size)
            full[:] = batches[rng.permutation(len(batches))].ravel()
        return self.rows[order]

    def batches(self, epoch: int, first: int = 0) -> Iterator[Int64[np.ndarray, " B"]]:
        """Yield the rows of each batch of an epoch, starting with batch `first`."""
        rows, size = self.permuted(epoch), self.batch_size
        for number in range(first, len(self)):
            yield rows[number * size : (number + 1) * size]


def random_stream(seed: int, epoch: int, row: int, field: str, *more: int) -> np.random.Generator:
    """Random generator of one field of one row in one epoch; `more` numbers give further generators."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, row, FIELDS.index(field), *more]))


def pick(
    seed: int, epoch: int, rows: Int64[np.ndarray, " n"], field: str, counts: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Choose one of `counts` items for each row, uniformly by a hash; 0 if the count is 0.

    Example:
        >>> pick(7, 0, np.arange(5), "text", np.full(5, 3)).tolist()
        [2, 2, 0, 0, 1]
    """
    key = np.array([seed, epoch, FIELDS.index(field)], dtype=np.uint64)
    state = rows.astype(np.uint64)
    for part in key:
        state = _mix(state ^ _mix(np.full_like(state, part)))
    chosen = ((state >> np.uint64(32)) * counts.astype(np.uint64)) >> np.uint64(32)
    return chosen.astype(np.int64)


def _mix(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """One step of SplitMix64 (Steele et al., 2014) from each value."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
