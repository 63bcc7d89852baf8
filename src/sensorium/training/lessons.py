"""Batches of exercises: what a multimodal language model trains on and is measured on.

In: the tasks of a recipe, their tables and a model that prepares inputs and ids. Out: `Lesson`s, each of one
    task,
in an order that depends on seed and epoch alone: which task a batch is of is drawn with the tasks' weights,
its rows by that task's own permutation. Media that several exercises share are read and encoded once. Does
not know losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int64

from sensorium import media
from sensorium.core.errors import MediaError
from sensorium.core.types import MediaBatch, Padded, pad
from sensorium.data.order import LoaderState, Order
from sensorium.data.sample import Sample
from sensorium.data.table import Table
from sensorium.models.instructions import WRITER_OF
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.writing import Lesson, Sequel, packed, padded
from sensorium.training.exercises import COLUMNS, Exercise, exercises
from sensorium.training.generative import TaskConfig

_STREAM = 17
"""Tells the draws made here apart from other random streams of the same seed."""
_PASSES = 100_003
"""More than the passes that a task makes over its rows in one epoch."""


@dataclass(frozen=True)
class Course:
    """One task with its rows.

    Attributes:
        config: The task.
        table: Its table.
        train: Rows that train.
        test: Held-out rows, by what they are called.
    """

    config: TaskConfig
    table: Table
    train: Int64[np.ndarray, " n"]
    test: Mapping[str, Int64[np.ndarray, " m"]]

    def read(self, rows: Sequence[int] | np.ndarray, *, words_only: bool = False) -> list[Sample]:
        """Read what the task needs of some rows; words alone are read sooner."""
        columns = [one for one in COLUMNS[self.config.task] if not words_only or one in ("texts", "meta")]
        return self.table.rows(rows, columns=columns)

    def exercises(self, sample: Sample) -> list[Exercise]:
        """What a row lets a model practise."""
        return exercises(sample, self.config.task, self.config.languages, self.config.source_language)


@dataclass
class Teacher:
    """Makes lessons of exercises, as a model reads them.

    Attributes:
        model: Whose encoders prepare media, whose writers turn texts into ids.
        pack: Ids in a row of several sequences; 0: one in a row.
        failures: Why rows could not be used.
    """

    model: MultimodalLM
    pack: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def lesson(
        self, course: Course, rows: Sequence[int], asked: Sequence[Sequence[Exercise]]
    ) -> tuple[Lesson | None, list[Exercise]]:
        """One lesson of the exercises of some rows, and those of them that could be used; None if none."""
        ready: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        kept: list[tuple[int, Exercise]] = []
        writer = self.model.decoder(WRITER_OF[course.config.task])
        answers: list[list[int]] = []
        for row, of_row in zip(rows, asked, strict=True):
            for one in of_row:
                try:
                    if (row, one.key) not in ready:
                        ready[row, one.key] = self._prepared(one)
                    ids = writer.answer_ids(one.answer)
                except MediaError as error:
                    self.failures[f"{course.config.table} {row}"] = str(error)
                    continue
                if len(ids) <= course.config.max_tokens:
                    kept.append((row, one))
                    answers.append(ids)
        if not kept:
            return None, []
        batch = self._batch(kept, ready)
        sequels = [
            Sequel(writer.prompt_ids(one.instruction), ids, place)
            for place, ((_, one), ids) in enumerate(zip(kept, answers, strict=True))
        ]
        writing = packed(sequels, self.pack) if self.pack else padded(sequels)
        lesson = Lesson(batch, WRITER_OF[course.config.task], writing, course.config.task)
        return lesson, [one for _, one in kept]

    def _prepared(self, exercise: Exercise) -> dict[str, np.ndarray]:
        """Media of an exercise as the model's encoders take them; what it has no encoder for is left out."""
        found = {}
        for name, data in exercise.media.items():
            if name in self.model.sources:
                make = self.model.source(name).input
                size = getattr(getattr(make, "frame", make), "size_px", None)
                found[name] = make(media.open(data, target_px=size))
        return found

    def _batch(
        self,
        kept: Sequence[tuple[int, Exercise]],
        ready: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
    ) -> MediaBatch:
        """Inputs of all exercises, shared media once."""
        present: dict[str, torch.Tensor] = {}
        inputs: dict[str, Padded] = {}
        shared: dict[str, torch.Tensor] = {}
        keys = [(row, one.key) for row, one in kept]
        for name in self.model.sources:
            if name == "text":
                continue
            own = [key for key in dict.fromkeys(keys) if name in ready[key]]
            if own:
                numbers = {key: number for number, key in enumerate(own)}
                places = [place for place, key in enumerate(keys) if key in numbers]
                present[name] = torch.tensor(places)
                shared[name] = torch.tensor([numbers[keys[place]] for place in places])
                inputs[name] = pad([ready[key][name] for key in own])
        if "text" in self.model.sources:
            make = self.model.source("text").input
            present["text"] = torch.arange(len(kept))
            inputs["text"] = pad([make(one.instruction) for _, one in kept])
        rows = torch.tensor([row for row, _ in kept])
        return MediaBatch(rows, present, inputs, shared=shared)


class Lessons:
    """Batches of a mixture of tasks.

    Args:
        courses: The tasks.
        teacher: Makes lessons.
        batch_size: Rows in a batch, each with up to `per_row` exercises.
        seed: Of order and of the choice among exercises.
    """

    def __init__(self, courses: Sequence[Course], teacher: Teacher, *, batch_size: int, seed: int) -> None:
        self._courses = courses
        self._teacher = teacher
        self._orders = [Order(np.asarray(one.train, np.int64), batch_size, seed) for one in courses]
        weights = np.array([one.config.weight for one in courses])
        self._shares = weights / weights.sum()
        self._seed = seed
        self._state = LoaderState(0, 0, seed)

    def __len__(self) -> int:
        """Batches in an epoch: as many as pass once over the rows of all tasks."""
        return sum(map(len, self._orders))

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[Lesson]:
        """Yield the lessons of an epoch from the one numbered `offset` on."""
        which = np.random.default_rng([self._seed, _STREAM, epoch]).choice(
            len(self._courses), len(self), p=self._shares
        )
        for index in range(offset, len(which)):
            number = int(which[index])
            seen = int((which[:index] == number).sum())
            self._state = LoaderState(epoch, index + 1, self._seed)
            lesson = self._lesson(number, epoch, seen)
            if lesson is not None:
                yield lesson

    def state(self) -> LoaderState:
        """The place after the last lesson that was given."""
        if self._state.offset >= len(self):
            return LoaderState(self._state.epoch + 1, 0, self._seed)
        return self._state

    def _lesson(self, number: int, epoch: int, seen: int) -> Lesson | None:
        """The lesson that a task gives after `seen` others in this epoch."""
        course, order = self._courses[number], self._orders[number]
        round_, place = divmod(seen, len(order))
        walk = epoch * _PASSES + round_
        rows = order.permuted(walk)[place * order.batch_size : (place + 1) * order.batch_size]
        asked = [
            self._drawn(course.exercises(sample), course.config.per_row, walk, row)
            for row, sample in zip(rows.tolist(), course.read(rows), strict=True)
        ]
        return self._teacher.lesson(course, rows.tolist(), asked)[0]

    def _drawn(self, found: list[Exercise], most: int, walk: int, row: int) -> list[Exercise]:
        if len(found) <= most:
            return found
        rng = np.random.default_rng([self._seed, _STREAM, walk, row])
        return [found[place] for place in sorted(rng.permutation(len(found))[:most].tolist())]
