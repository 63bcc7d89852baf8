"""Data loader of a media table: decodes batches on demand, in this process or in worker processes.

Input: a table, row numbers and a transform per field. Output: `MediaBatch`es. Batch i of epoch e depends only
on the seed: it is the same for any number of workers, resumed or not. Rows that cannot be read are left out
and listed in `failures`. Cached features have a loader of their own, `data.loading.feature_loader`.
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
from sensorium.data.loading.epochs import Epochs
from sensorium.data.loading.mixup import Mixup
from sensorium.data.loading.order import LoaderState, Order
from sensorium.data.table.table import Table
from sensorium.data.transforms import Input

BATCHES_AHEAD = 2
PARENT_POLL_S = 2.0


class Loader:
    """Loads batches of decoded media.

    Args:
        table: The table; rows of several tables are numbered as one sequence.
        rows: Row numbers to use.
        inputs: Transform of each field into an array; other fields are not read.
        batch_size: Rows in a batch, before unreadable ones are left out.
        seed: Seed of the order, of augmentation and of the choice of captions and clips.
        workers: Decoding processes; 0 decodes in this process. Each prefetches two batches.
        shuffle: Permute the rows in each epoch.
        drop_last: Drop the last batch if it is not full.
        augment: Use random views and a random caption or clip; otherwise the plain view of the first.
        languages: Languages of captions and clips to use; empty uses all.
        captions: Use a `random` caption of a row in each epoch, or the `first`.
        cache_mb: Megabytes of decoded rows that each process keeps for the next epochs; 0 keeps none.
        mixup: Probability that an image is mixed with another of its group, 0..1; needs `augment`.

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
        self._epochs = Epochs(len(self._order), seed, self._batches)
        self.failures: dict[int, str] = {}

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order)

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[MediaBatch]:
        """Yield the batches of an epoch, starting with number `offset`; skip those with no readable row.

        Raises:
            TrainingError: If a worker dies (detected within seconds).
        """
        return self._epochs.epoch(epoch, offset)

    def __iter__(self) -> Iterator[MediaBatch]:
        """Yield the rest of the current epoch; the next call starts the next epoch."""
        return iter(self._epochs)

    def state(self) -> LoaderState:
        """Position after the last batch."""
        return self._epochs.state()

    def resume(self, state: LoaderState) -> None:
        """Continue from a position (see `Epochs.resume`)."""
        self._epochs.resume(state)

    def close(self) -> None:
        """Stop the workers; the next epoch starts new ones."""
        self._pool = None

    def _mixup(self, probability: float, inputs: Mapping[str, Input], augment: bool) -> Mixup | None:
        if probability == 0:
            return None
        if "image" not in inputs or not augment:
            raise UsageError(f"mixup={probability} needs an image input and augment=True; set it to 0")
        return Mixup(probability, self._order.rows, self._codes)

    def _batches(self, epoch: int, first: int) -> Iterator[MediaBatch | None]:
        for decoded in self._decode(epoch, self._order.batches(epoch, first)):
            self.failures.update(decoded.failures)
            yield self._batch(decoded) if len(decoded.rows) else None

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
        """Yield the workers' results; if a worker dies, drop the pool and raise."""
        try:
            yield from pool.run(jobs)
        except (RuntimeError, EOFError, ConnectionError) as error:
            self._pool = None
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrainingError(
                f"a decoding worker died ({reason}); memory or shared memory may be too small: "
                f"lower batch_size or workers={self._workers}, then continue with --resume"
            ) from error


@dataclass(frozen=True)
class _Job:
    """Rows to decode, and the epoch."""

    epoch: int
    rows: np.ndarray


class _Jobs(Dataset[Decoded]):
    """The dataset in each worker: indexed by a job, it returns the decoded rows."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def __getitem__(self, job: _Job) -> Decoded:
        return self._decoder(job.rows, job.epoch)


class _Pool:
    """Worker processes that stay alive between epochs; results come in the order of the jobs.

    They are spawned, not forked, because the threads of torch and Lance do not survive a fork.
    """

    def __init__(self, decoder: Decoder, workers: int) -> None:
        self._jobs: list[_Job] = []
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*suggested max number of worker.*")
            self._loader: DataLoader[Decoded] = DataLoader(
                _Jobs(decoder),
                sampler=self._jobs,  # refilled for each epoch
                batch_size=None,
                num_workers=workers,
                multiprocessing_context="spawn" if sys.platform == "win32" else "forkserver",
                prefetch_factor=BATCHES_AHEAD,
                persistent_workers=True,
                worker_init_fn=functools.partial(_exit_with_parent, os.getpid()),
            )

    def run(self, jobs: Iterable[_Job]) -> Iterator[Decoded]:
        """Yield the result of each job."""
        self._jobs[:] = jobs
        return iter(self._loader)


def _exit_with_parent(trainer: int, worker: int) -> None:
    """Exit this worker soon after the training process is killed.

    torch watches the worker's parent process, but under forkserver that is the server, which stays alive.
    """

    def watch() -> None:
        while True:
            time.sleep(PARENT_POLL_S)
            try:
                os.kill(trainer, 0)
            except ProcessLookupError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
