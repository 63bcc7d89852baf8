"""Batches of a media table, decoded as they are needed, by this process or by workers.

In: a table, row numbers and how each field becomes an array. Out: `MediaBatch`es in an order that depends
on seed and epoch alone: with 0 or 9 workers, resumed or not, batch i of epoch e holds the same values.
Rows that cannot be read are left out and kept in `failures`. Cached features: `data.feature_loader`.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sensorium.core.errors import TrainingError, UsageError
from sensorium.core.types import MediaBatch
from sensorium.data.loading.decode import Captions, Decoded, Decoder
from sensorium.data.loading.mixup import Mixup
from sensorium.data.loading.order import Cursor, LoaderState, Order
from sensorium.data.table.table import Table
from sensorium.data.transforms import Input

BATCHES_AHEAD = 2
SECONDS_BETWEEN_LOOKS = 2.0


class Loader:
    """Batches of decoded media.

    Args:
        table: Where the rows are; several tables count as one sequence of rows.
        rows: Which of them.
        inputs: How each field becomes an array; other fields are not read.
        batch_size: Rows in a batch, before unreadable ones are left out.
        seed: Of order, augmentation and the choice among captions or clips.
        workers: Decoding processes; 0 decodes in this one. Each holds at most two batches.
        shuffle: Permute the rows anew in each epoch.
        drop_last: Leave out the last batch where it is not full.
        augment: Random views, and a random caption or clip of several; otherwise the first, plain.
        languages: Captions and clips taken; empty takes all.
        captions: Draw a `random` caption of a row in each epoch, or take the `first`.
        cache_mb: Megabytes of read and opened rows that each process keeps for the next epochs; 0 keeps none.
        mixup: Chance that a picture is mixed with another of its group, where views are random.

    Attributes:
        failures: Row number to the reason why it could not be read.
    """

    def __init__(
        self,
        table: Table | Sequence[Table],
        rows: Sequence[int] | np.ndarray,
        inputs: Mapping[str, Input],
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        augment: bool = True,
        languages: Sequence[str] = (),
        captions: Captions = "random",
        cache_mb: int = 0,
        mixup: float = 0.0,
    ) -> None:
        if not inputs:
            raise UsageError("no inputs; name at least one field, as in {'image': ImageInput()}")
        tables = (table,) if isinstance(table, Table) else tuple(table)
        self._order = Order(np.asarray(rows, np.int64), batch_size, seed, shuffle, drop_last)
        names = [group for part in tables for group in part.groups]
        self._order.check(len(names))
        self._codes = np.unique(np.asarray(names), return_inverse=True)[1]
        self._decoder = Decoder(
            tables,
            dict(inputs),
            seed,
            augment,
            tuple(languages),
            captions,
            cache_bytes=cache_mb * 10**6,
            mixup=self._mixup(mixup, inputs, augment),
        )
        self._workers = workers
        self._pool: _Pool | None = None
        self._cursor = Cursor(self._order)
        self.failures: dict[int, str] = {}

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order)

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[MediaBatch]:
        """Yield the batches of an epoch from the one numbered `offset` on.

        A batch of which no row can be read is left out.

        Raises:
            TrainingError: If a worker dies; noticed within seconds.
        """
        rows = Cursor(self._order).walk(epoch, offset)
        for decoded, _ in zip(self._decode(epoch, rows), self._cursor.walk(epoch, offset), strict=False):
            self.failures.update(decoded.failures)
            if len(decoded.rows):
                yield self._batch(decoded)

    def __iter__(self) -> Iterator[MediaBatch]:
        """Yield what is left of the current epoch; the next call begins the next one."""
        state = self.state()
        return self.epoch(state.epoch, state.offset)

    def state(self) -> LoaderState:
        """The place after the last batch that was given."""
        return self._cursor.state()

    def resume(self, state: LoaderState) -> None:
        """Go on from a place.

        Raises:
            UsageError: If it is of another seed: the order would not be the same.
        """
        self._cursor.resume(state)

    def close(self) -> None:
        """End the workers; they start again when needed."""
        self._pool = None

    def _mixup(self, chance: float, inputs: Mapping[str, Input], augment: bool) -> Mixup | None:
        if chance == 0:
            return None
        if "image" not in inputs or not augment:
            raise UsageError(f"mixup={chance} needs pictures that are decoded at random views; set it to 0")
        return Mixup(chance, self._order.rows, self._codes)

    def _batch(self, decoded: Decoded) -> MediaBatch:
        groups = torch.from_numpy(self._codes[decoded.rows.numpy()])
        return MediaBatch(rows=decoded.rows, present=decoded.present, inputs=decoded.inputs, groups=groups)

    def _decode(self, epoch: int, batches: Iterator[np.ndarray]) -> Iterator[Decoded]:
        jobs = (_Job(epoch, rows) for rows in batches)
        if self._workers == 0:
            return (self._decoder(job.rows, job.epoch) for job in jobs)
        if self._pool is None:
            self._pool = _Pool(self._decoder, self._workers)
        return self._watch(self._pool, jobs)

    def _watch(self, pool: _Pool, jobs: Iterable[_Job]) -> Iterator[Decoded]:
        """Pass on what the workers give; where one dies, say so and let all go."""
        try:
            yield from pool.run(jobs)
        except (RuntimeError, EOFError, ConnectionError) as error:
            self._pool = None
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrainingError(
                f"a decoding worker is gone ({reason}); memory or shared memory may be short: "
                f"lower batch_size or workers={self._workers}, then go on with --resume"
            ) from error


@dataclass(frozen=True)
class _Job:
    """Rows to decode as they are seen in an epoch."""

    epoch: int
    rows: np.ndarray


class _Jobs(Dataset[Decoded]):
    """What a worker holds: it turns a job into decoded rows."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def __getitem__(self, job: _Job) -> Decoded:
        return self._decoder(job.rows, job.epoch)


class _Pool:
    """Worker processes that live on from epoch to epoch; answers come in the order of the jobs.

    They are started afresh rather than forked: neither torch's nor Lance's threads survive a fork.
    """

    def __init__(self, decoder: Decoder, workers: int) -> None:
        self._jobs: list[_Job] = []
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*suggested max number of worker.*")
            self._loader: DataLoader[Decoded] = DataLoader(
                _Jobs(decoder),
                sampler=_Current(self._jobs),
                batch_size=None,
                num_workers=workers,
                multiprocessing_context="spawn" if sys.platform == "win32" else "forkserver",
                prefetch_factor=BATCHES_AHEAD,
                persistent_workers=True,
                worker_init_fn=functools.partial(_leave_with, os.getpid()),
            )

    def run(self, jobs: Iterable[_Job]) -> Iterator[Decoded]:
        """Yield what each job gives."""
        self._jobs[:] = jobs
        return iter(self._loader)


def _leave_with(trainer: int, worker: int) -> None:
    """End this worker soon after the process that wants its batches was killed.

    torch watches a worker's parent, which under forkserver is the server: it outlives the trainer with us.
    """

    def watch() -> None:
        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            try:
                os.kill(trainer, 0)
            except ProcessLookupError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Current:
    """The jobs of the epoch that runs: the pool puts new ones into the same list."""

    def __init__(self, jobs: list[_Job]) -> None:
        self._jobs = jobs

    def __iter__(self) -> Iterator[_Job]:
        return iter(tuple(self._jobs))

    def __len__(self) -> int:
        return len(self._jobs)
