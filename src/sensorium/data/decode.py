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
    """

    tables: Sequence[Table]
    inputs: Mapping[str, Input]
    seed: int
    augment: bool
    languages: Sequence[str] = ()
    captions: Captions = "random"
    starts: Int64[np.ndarray, " t"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.inputs if name not in FIELDS]
        if unknown:
            raise UsageError(f"no field '{unknown[0]}'; known: {', '.join(FIELDS)}")
        self.starts = np.cumsum([0, *(len(table) for table in self.tables)])

    def __call__(self, rows: np.ndarray, epoch: int) -> Decoded:
        """Decode `rows` as they are seen in `epoch`."""
        samples = self._read(rows)
        arrays: list[dict[str, np.ndarray]] = []
        kept: list[int] = []
        failures: dict[int, str] = {}
        for row, sample in zip(rows.tolist(), samples, strict=True):
            try:
                arrays.append(self._arrays(row, sample, epoch))
                kept.append(row)
            except MediaError as error:
                failures[row] = str(error)
        return _stack(kept, arrays, failures)

    def _read(self, rows: np.ndarray) -> list[Sample]:
        """Read rows of all tables, in the order asked; only the columns that the inputs need."""
        columns = [COLUMN_OF[name] for name in self.inputs]
        found: dict[int, Sample] = {}
        for table, start, stop in zip(self.tables, self.starts[:-1], self.starts[1:], strict=True):
            own = rows[(rows >= start) & (rows < stop)]
            found |= zip(own.tolist(), table.rows(own - start, columns), strict=True)
        return [found[row] for row in rows.tolist()]

    def _arrays(self, row: int, sample: Sample, epoch: int) -> dict[str, np.ndarray]:
        arrays = {}
        for name, make in self.inputs.items():
            opened = self._open(name, make, row, sample, epoch)
            if opened is None:
                continue
            try:
                arrays[name] = make(opened, stream(self.seed, epoch, row, name) if self.augment else None)
            except MediaError as error:
                raise type(error)(f"{name}: {error}") from error
        return arrays

    def _open(
        self, name: str, make: Input, row: int, sample: Sample, epoch: int
    ) -> Image | Audio | Video | Text | None:
        """Open what the sample holds of a field; of several captions or clips, one."""
        if name == "text":
            captions = [item for item in sample.texts if is_asked(item.language, name, self.languages)]
            number = 1 if self.captions == "first" else len(captions)
            chosen = self._choose(name, row, epoch, number)
            return Text(captions[chosen].text, captions[chosen].language) if captions else None
        if name == "speech":
            clips = [item for item in sample.speech if is_asked(item.language, name, self.languages)]
            data = clips[self._choose(name, row, epoch, len(clips))].data if clips else None
        else:
            data = {"image": sample.image, "audio": sample.audio, "video": sample.video}[name]
        if not data:
            return None
        try:
            opened = media.open(data, target_px=_target_px(make))
        except MediaError as error:
            raise type(error)(f"{name}: {error}") from error
        if not isinstance(opened, _KINDS[name]):
            raise MediaError(f"{name}: holds {type(opened).__name__.lower()}")
        return opened

    def _choose(self, name: str, row: int, epoch: int, count: int) -> int:
        if not self.augment or count < 2:
            return 0
        return int(pick(self.seed, epoch, np.array([row]), name, np.array([count]))[0])


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
