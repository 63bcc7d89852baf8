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
        mixup: Draws pictures over others of their group, where it is given and views are random.
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
        """Decode `rows` as they are seen in `epoch`."""
        arrays: list[dict[str, np.ndarray]] = []
        kept: list[int] = []
        failures: dict[int, str] = {}
        partners = self._partners(rows, epoch)
        held = self._read([*rows.tolist(), *(partner.row for partner in partners.values())])
        for number in rows.tolist():
            try:
                inputs = self._arrays(number, held[number], epoch)
            except MediaError as error:
                failures[number] = str(error)
                continue
            if number in partners and "image" in inputs:
                self._draw_over(inputs["image"], number, partners[number], held, epoch)
            arrays.append(inputs)
            kept.append(number)
        return _stack(kept, arrays, failures)

    def _partners(self, rows: np.ndarray, epoch: int) -> dict[int, Partner]:
        if self.mixup is None or not self.augment:
            return {}
        drawn = {number: self.mixup.partner(self.seed, epoch, number) for number in rows.tolist()}
        return {number: partner for number, partner in drawn.items() if partner is not None}

    def _read(self, numbers: Sequence[int]) -> dict[int, Row]:
        """Rows of all tables, from memory or read anew; only the columns that the inputs need."""
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
        arrays = {}
        for name, make in self.inputs.items():
            if not row[name]:
                continue
            place = self._choose(name, number, epoch, len(row[name]))
            try:
                opened = self._opened(number, row, name, place)
                rng = random_stream(self.seed, epoch, number, name) if self.augment else None
                arrays[name] = make(opened, rng)
            except MediaError as error:
                raise type(error)(f"{name}: {error}") from error
        return arrays

    def _draw_over(
        self, pixels: np.ndarray, number: int, partner: Partner, held: Mapping[int, Row], epoch: int
    ) -> None:
        """Mixup a row's picture with its partner's in the same view, unless that one cannot be read."""
        row = held[partner.row]
        if not row["image"]:
            return
        try:
            opened = self._opened(partner.row, row, "image", 0)
        except MediaError:
            return
        other = self.inputs["image"](opened, random_stream(self.seed, epoch, number, "image"))
        pixels += np.float32(partner.share) * (other - pixels)

    def _opened(self, number: int, row: Row, name: str, place: int) -> Image | Audio | Video | Text:
        """Open what is still bytes; it stays open where the row is kept."""
        candidate = row[name][place]
        if not isinstance(candidate, bytes):
            return candidate
        opened = media.open(candidate, target_px=_target_px(self.inputs[name]))
        if not isinstance(opened, _KINDS[name]):
            raise MediaError(f"holds {type(opened).__name__.lower()}")
        self.cache.open(number, name, place, opened)
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
