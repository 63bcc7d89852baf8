"""What a table lets in: each content once, in batches that one commit can write.

In: a stream of samples. Out: lists of those that are not there yet, bounded in rows and in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sensorium.data.table.sample import Sample

BATCH_ROWS = 1024
BATCH_BYTES = 64 * 1024 * 1024


class Seen:
    """Content ids on disk, kept from one `Table.add` to the next.

    Those on the way to the disk count only while that lasts: a write that fails marks nothing as seen.
    """

    def __init__(self) -> None:
        self._on_disk: set[str] = set()
        self._num_rows = 0

    def up_to_date(self, ids: list[str]) -> Seen:
        """Take in the rows that were added since."""
        self._on_disk.update(ids[self._num_rows :])
        self._num_rows = len(ids)
        return self

    def new(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Pass on samples that are not on disk, each content once."""
        passed: set[str] = set()
        for sample in samples:
            if sample.id not in self._on_disk and sample.id not in passed:
                passed.add(sample.id)
                yield sample


def batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Cut into batches bounded in rows and in bytes: what one commit writes."""
    batch: list[Sample] = []
    size = 0
    for sample in samples:
        batch.append(sample)
        size += sum(len(media or b"") for media in (sample.image, sample.audio, sample.video))
        size += sum(len(clip.data) for clip in sample.speech)
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
