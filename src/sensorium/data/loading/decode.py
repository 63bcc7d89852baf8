"""Decodes rows of media tables into padded inputs; runs in the training process or in a loader's worker.

Input: row numbers and an epoch. Output: `Decoded`, the inputs of the rows that could be read and the reason
for each row that could not. `Decoder` is small and picklable: each process opens the tables again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64

from sensorium import media
from sensorium.core.errors import MediaError, UsageError
from sensorium.core.types import FIELDS, Padded, pad
from sensorium.data.loading.mixup import Mixup, Partner
from sensorium.data.loading.order import pick, random_stream
from sensorium.data.loading.row_cache import Candidate, Row, RowCache
from sensorium.data.table.sample import COLUMN_OF, Sample, is_asked
from sensorium.data.table.table import Table
from sensorium.data.transforms import Input
from sensorium.media import Audio, Image, Text, Video

Captions = Literal["random", "first"]
_KINDS = {"image": (Image, Video), "audio": (Audio, Video), "speech": (Audio, Video), "video": (Video, Image)}


@dataclass(frozen=True)
class Decoded:
    """The inputs of one batch of rows.

    Attributes:
        rows: Numbers of the rows that could be read, in order, (B,) int64.
        present: For each field, positions within `rows` that have it, (b,) int64.
        inputs: For each field, the inputs of those b rows.
        failures: Row number to the reason why the row was left out.
    """

    rows: torch.Tensor
    present: dict[str, torch.Tensor]
    inputs: dict[str, Padded]
    failures: dict[int, str]


@dataclass
class Decoder:
    """Decodes rows of one table, or of several that are numbered as one sequence.

    Attributes:
        tables: Row numbers count through the first table, then the second, ...
        inputs: Transform of each field into an array.
        seed: Seed of all random choices.
        augment: Use random views and a random caption or clip; otherwise the plain view of the first.
        languages: Languages of captions and clips to use; empty uses all.
        captions: `random` picks one caption of a row in each epoch, `first` uses the first.
        cache_bytes: Size limit of rows kept in memory between epochs.
        mixup: Mixes an image with another of its group; needs `augment`. None: no mixup.
    """

    tables: Sequence[Table]
    inputs: Mapping[str, Input]
    seed: int
    augment: bool
    languages: Sequence[str] = ()
    captions: Captions = "random"
    cache_bytes: int = 0
    mixup: Mixup | None = None
    starts: Int64[np.ndarray, " t"] = field(init=False, repr=False)
    cache: RowCache = field(init=False, repr=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.inputs if name not in FIELDS]
        if unknown:
            raise UsageError(f"no field '{unknown[0]}'; known: {', '.join(FIELDS)}")
        self.starts = np.cumsum([0, *(len(table) for table in self.tables)])
        self.cache = RowCache(self.cache_bytes)

    def __call__(self, rows: np.ndarray, epoch: int) -> Decoded:
        """Decode `rows` with the random choices of `epoch`."""
        arrays: list[dict[str, np.ndarray]] = []
        kept: list[int] = []
        failures: dict[int, str] = {}
        partners = self._partners(rows, epoch)
        read = self._read([*rows.tolist(), *(partner.row for partner in partners.values())])
        for number in rows.tolist():
            try:
                inputs = self._arrays(number, read[number], epoch)
            except MediaError as error:
                failures[number] = str(error)
                continue
            if number in partners and "image" in inputs:
                self._mix(inputs["image"], number, partners[number], read, epoch)
            arrays.append(inputs)
            kept.append(number)
        return _stack(kept, arrays, failures)

    def _partners(self, rows: np.ndarray, epoch: int) -> dict[int, Partner]:
        if self.mixup is None or not self.augment:
            return {}
        drawn = {number: self.mixup.partner(self.seed, epoch, number) for number in rows.tolist()}
        return {number: partner for number, partner in drawn.items() if partner is not None}

    def _read(self, numbers: Sequence[int]) -> dict[int, Row]:
        """Rows of all tables from the cache or the disk, with only the columns that the inputs need."""
        found = {number: row for number in numbers if (row := self.cache.get(number)) is not None}
        missing = np.array(
            [number for number in dict.fromkeys(numbers) if number not in found], dtype=np.int64
        )
        columns = [COLUMN_OF[name] for name in self.inputs]
        for table, start, stop in zip(self.tables, self.starts[:-1], self.starts[1:], strict=True):
            own = missing[(missing >= start) & (missing < stop)]
            samples = table.rows(own - start, columns) if len(own) else []
            found |= zip(own.tolist(), map(self._row, samples), strict=True)
        for number in missing.tolist():
            self.cache.put(number, found[number])
        return found

    def _row(self, sample: Sample) -> Row:
        """For each input's field, the texts or encoded media of a sample."""
        return {name: self._candidates(name, sample) for name in self.inputs}

    def _candidates(self, name: str, sample: Sample) -> list[Candidate]:
        if name == "text":
            texts = [item for item in sample.texts if is_asked(item.language, name, self.languages)]
            chosen = texts[:1] if self.captions == "first" else texts
            return [Text(item.text, item.language) for item in chosen]
        if name == "speech":
            return [item.data for item in sample.speech if is_asked(item.language, name, self.languages)]
        data = {"image": sample.image, "audio": sample.audio, "video": sample.video}[name]
        return [data] if data else []

    def _arrays(self, number: int, row: Row, epoch: int) -> dict[str, np.ndarray]:
        arrays = {}
        for name, make in self.inputs.items():
            if not row[name]:
                continue
            index = self._choose(name, number, epoch, len(row[name]))
            try:
                opened = self._opened(number, row, name, index)
                rng = random_stream(self.seed, epoch, number, name) if self.augment else None
                arrays[name] = make(opened, rng)
            except MediaError as error:
                raise type(error)(f"{name}: {error}") from error
        return arrays

    def _mix(
        self, pixels: np.ndarray, number: int, partner: Partner, read: Mapping[int, Row], epoch: int
    ) -> None:
        """Mix a row's image, in place, with its partner's in the same view; skip unreadable partners."""
        row = read[partner.row]
        if not row["image"]:
            return
        try:
            opened = self._opened(partner.row, row, "image", 0)
        except MediaError:
            return
        other = self.inputs["image"](opened, random_stream(self.seed, epoch, number, "image"))
        pixels += np.float32(partner.weight) * (other - pixels)

    def _opened(self, number: int, row: Row, name: str, index: int) -> Image | Audio | Video | Text:
        """The decoded medium of a candidate; the cache keeps it decoded if it keeps the row."""
        candidate = row[name][index]
        if not isinstance(candidate, bytes):
            return candidate
        opened = media.open(candidate, target_px=_target_px(self.inputs[name]))
        if not isinstance(opened, _KINDS[name]):
            raise MediaError(f"holds {type(opened).__name__.lower()}")
        self.cache.open(number, name, index, opened)
        return opened

    def _choose(self, name: str, row: int, epoch: int, count: int) -> int:
        if not self.augment or count < 2:
            return 0
        return int(pick(self.seed, epoch, np.array([row]), name, np.array([count]))[0])


def _stack(rows: list[int], arrays: list[dict[str, np.ndarray]], failures: dict[int, str]) -> Decoded:
    present: dict[str, torch.Tensor] = {}
    inputs: dict[str, Padded] = {}
    for name in FIELDS:
        positions = [index for index, row in enumerate(arrays) if name in row]
        if positions:
            present[name] = torch.tensor(positions)
            inputs[name] = pad([arrays[index][name] for index in positions])
    return Decoded(torch.tensor(rows, dtype=torch.int64), present, inputs, failures)


def _target_px(make: Input) -> int | None:
    """Side of the image that an input needs; larger images may be decoded at a reduced scale."""
    return getattr(getattr(make, "frame", make), "size_px", None)
