"""Batches of every epoch, with a position that training can resume from.

In: a function that yields the batches of an epoch. Out: the same batches, and after each of them the position
of the next: epoch and batch number. The order must depend on seed and epoch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sensorium.core.errors import UsageError
from sensorium.data.loading.order import LoaderState

T = TypeVar("T")


class Epochs(Generic[T]):
    """Batches of every epoch.

    Args:
        num_batches: Batches in an epoch.
        seed: Names the order.
        batches: `batches(epoch, first)` yields one item for each batch from the one numbered `first` on; None
            where no row of a batch can be used. Such a batch is skipped.
    """

    def __init__(
        self, num_batches: int, seed: int, batches: Callable[[int, int], Iterator[T | None]]
    ) -> None:
        self._num_batches = num_batches
        self._batches = batches
        self._state = LoaderState(0, 0, seed)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._num_batches

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[T]:
        """Yield the batches of an epoch from the one numbered `offset` on."""
        for number, batch in enumerate(self._batches(epoch, offset), start=offset):
            self._state = LoaderState(epoch, number + 1, self._state.seed)
            if batch is not None:
                yield batch

    def __iter__(self) -> Iterator[T]:
        """Yield the rest of the current epoch; the next call starts the next epoch."""
        state = self.state()
        return self.epoch(state.epoch, state.offset)

    def state(self) -> LoaderState:
        """The position after the last batch."""
        if self._state.offset >= len(self):
            return LoaderState(self._state.epoch + 1, 0, self._state.seed)
        return self._state

    def resume(self, state: LoaderState) -> None:
        """Continue from a position.

        Raises:
            UsageError: If its seed differs, since the order would differ.
        """
        if state.seed != self._state.seed:
            raise UsageError(
                f"the state has seed {state.seed}, the loader {self._state.seed}; resume with the same seed"
            )
        self._state = state
