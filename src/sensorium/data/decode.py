"""Rows of a table to padded inputs: the work of one process, be it the trainer's own or a worker's.

In: row numbers and an epoch. Out: the inputs of those rows that could be read, and the reasons why the
others could not. A decoder is small and picklable; tables are opened anew where it is used.
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
from sensorium.data.inputs import Input
from sensorium.data.order import pick, stream
from sensorium.data.row_cache import Candidate, Row, RowCache
from sensorium.data.sample import COLUMN_OF, Sample, is_asked
from sensorium.data.table import Table
from sensorium.media import Audio, Image, Text, Video

Captions = Literal["random", "first"]
_KINDS = {"image": (Image, Video), "audio": (Audio, Video), "speech": (Audio, Video), "video": (Video, Image)}


@dataclass(frozen=True)
class Decoded:
    """What one batch of rows gave.

    Attributes:
        rows: Those that could be read, in order, (B,) int64.
        present: For each field, positions within `rows`, (b,) int64.
        inputs: For each field, inputs of those b rows.
        failures: Row to the reason why it was left out.
    """

    rows: torch.Tensor
    present: dict[str, torch.Tensor]
    inputs: dict[str, Padded]
    failures: dict[int, str]


@dataclass
class Decoder:
    """Decode rows of one table, or of several as one sequence.

    Attributes:
        tables: Row numbers run through the first, then the second, ...
        inputs: How each field becomes an array.
        seed: Of all random choices.
        augment: Random views, and a random caption or clip of several; otherwise the plain view of the first.
        languages: Captions and clips taken; empty takes all.
        captions: `random` draws one of a row's captions in each epoch, `first` takes the first.
        cache_bytes: What was read and opened is kept for the next epoch up to this size.
    """

    tables: Sequence[Table]
    inputs: Mapping[str, Input]
    seed: int
    augment: bool
    languages: Sequence[str] = ()
    captions: Captions = "random"
    cache_bytes: int = 0
    starts: Int64[np.ndarray, " t"] = field(init=False, repr=False)
    cache: RowCache = field(init=False, repr=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.inputs if name not in FIELDS]
        if unknown:
            raise UsageError(f"no field '{unknown[0]}'; known: {', '.join(FIELDS)}")
        self.starts = np.cumsum([0, *(len(table) for table in self.tables)])
        self.cache = RowCache(self.cache_bytes)

    def __call__(self, rows: np.ndarray, epoch: int) -> Decoded:
        """Decode `rows` as they are seen in `epoch`."""
        arrays: list[dict[str, np.ndarray]] = []
        kept: list[int] = []
        failures: dict[int, str] = {}
        for number, row in zip(rows.tolist(), self._read(rows), strict=True):
            try:
                arrays.append(self._arrays(number, row, epoch))
                kept.append(number)
                self.cache.put(number, row)
            except MediaError as error:
                failures[number] = str(error)
        return _stack(kept, arrays, failures)

    def _read(self, rows: np.ndarray) -> list[Row]:
        """Read those rows of all tables that are not kept; only the columns that the inputs need."""
        columns = [COLUMN_OF[name] for name in self.inputs]
        found = {number: row for number in rows.tolist() if (row := self.cache.get(number)) is not None}
        missing = np.array([number for number in rows.tolist() if number not in found], dtype=np.int64)
        for table, start, stop in zip(self.tables, self.starts[:-1], self.starts[1:], strict=True):
            own = missing[(missing >= start) & (missing < stop)]
            samples = table.rows(own - start, columns) if len(own) else []
            found |= zip(own.tolist(), map(self._row, samples), strict=True)
        return [found[number] for number in rows.tolist()]

    def _row(self, sample: Sample) -> Row:
        """What a sample holds of each input's field, unopened."""
        return {name: self._candidates(name, sample) for name in self.inputs}

    def _candidates(self, name: str, sample: Sample) -> list[Candidate]:
        if name == "text":
            asked = [item for item in sample.texts if is_asked(item.language, name, self.languages)]
            taken = asked[:1] if self.captions == "first" else asked
            return [Text(item.text, item.language) for item in taken]
        if name == "speech":
            return [item.data for item in sample.speech if is_asked(item.language, name, self.languages)]
        data = {"image": sample.image, "audio": sample.audio, "video": sample.video}[name]
        return [data] if data else []

    def _arrays(self, number: int, row: Row, epoch: int) -> dict[str, np.ndarray]:
        """Inputs of a row; what is opened for them takes the place of its bytes."""
        arrays = {}
        for name, make in self.inputs.items():
            candidates = row[name]
            if not candidates:
                continue
            place = self._choose(name, number, epoch, len(candidates))
            try:
                opened = candidates[place] = _open(name, make, candidates[place])
                rng = stream(self.seed, epoch, number, name) if self.augment else None
                arrays[name] = make(opened, rng)
            except MediaError as error:
                raise type(error)(f"{name}: {error}") from error
        return arrays

    def _choose(self, name: str, row: int, epoch: int, count: int) -> int:
        if not self.augment or count < 2:
            return 0
        return int(pick(self.seed, epoch, np.array([row]), name, np.array([count]))[0])


def _open(name: str, make: Input, candidate: Candidate) -> Image | Audio | Video | Text:
    if not isinstance(candidate, bytes):
        return candidate
    opened = media.open(candidate, target_px=_target_px(make))
    if not isinstance(opened, _KINDS[name]):
        raise MediaError(f"holds {type(opened).__name__.lower()}")
    return opened


def _stack(rows: list[int], arrays: list[dict[str, np.ndarray]], failures: dict[int, str]) -> Decoded:
    present: dict[str, torch.Tensor] = {}
    inputs: dict[str, Padded] = {}
    for name in FIELDS:
        places = [place for place, row in enumerate(arrays) if name in row]
        if places:
            present[name] = torch.tensor(places)
            inputs[name] = pad([arrays[place][name] for place in places])
    return Decoded(torch.tensor(rows, dtype=torch.int64), present, inputs, failures)


def _target_px(make: Input) -> int | None:
    """Side of the picture that an input looks at: larger images may be decoded at a reduced scale."""
    return getattr(getattr(make, "frame", make), "size_px", None)
