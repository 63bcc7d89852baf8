"""Batches of exercises: what a multimodal language model trains on and is measured on.

In: the tasks of a recipe, their tables and a model that prepares inputs and ids. Out: batches, each of one
task, in an order that depends on seed and epoch alone: which task a batch is of is drawn with the tasks'
weights, its rows by that task's own permutation. Media that several exercises share are read and encoded
once. Does not know losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int64

from sensorium import media
from sensorium.core.errors import ConfigError, MediaError
from sensorium.core.types import Tokens
from sensorium.data.loading.order import LoaderState, Order
from sensorium.data.questions import questions_of
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.data.table.vectors import Ragged
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.processor import ModelInputs, batch_of, prepare, target_px
from sensorium.models.prompts import DECODER_OF
from sensorium.models.sequences import DecoderBatch, TokenSequence, packed, padded
from sensorium.training.generative.examples import COLUMNS, Exercise, exercises
from sensorium.training.generative.recipe import TaskConfig

_STREAM = 17
"""Tells the draws made here apart from other random streams of the same seed."""
_ROWS_AT_ONCE = 16
_ROWS_FOR_TYPES = 200
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
        tokens: By modality, what frozen encoders gave for each row of the table, (N, D).
        codes: What each row's medium is in the codes of the writer's codec, (N, 1); None for texts.
    """

    config: TaskConfig
    table: Table
    train: Int64[np.ndarray, " n"]
    test: Mapping[str, Int64[np.ndarray, " m"]]
    tokens: Mapping[str, Ragged] = field(default_factory=dict)
    codes: Ragged | None = None

    def read(self, rows: Sequence[int] | np.ndarray, *, words_only: bool = False) -> list[Sample]:
        """Read what the task needs of some rows; words alone are read sooner."""
        columns = [one for one in COLUMNS[self.config.task] if not words_only or one in ("texts", "meta")]
        return self.table.rows(rows, columns=columns)

    def exercises(self, sample: Sample) -> list[Exercise]:
        """What a row lets a model practise."""
        config = self.config
        found = exercises(sample, config.task, config.languages, config.source_language)
        return [one for one in found if not config.types or one.type in config.types]

    def check_types(self) -> None:
        """Refuse types of questions that none of the first rows has.

        Raises:
            ConfigError: In one line, with the types that are there.
        """
        wanted = set(self.config.types)
        some = self.read(self.train[:_ROWS_FOR_TYPES], words_only=True) if wanted else []
        known = {one.type for sample in some for one in questions_of(sample)}
        if wanted - known:
            raise ConfigError(
                f"task '{self.config.task}' over {self.config.table}: no question of type "
                f"'{min(wanted - known)}' in {len(some)} rows; known: {', '.join(sorted(known)) or 'none'}"
            )


@runtime_checkable
class TransformsExamples(Protocol):
    """An extension of a model that changes what is read and written in training."""

    def example(self, exercise: Exercise, config: TaskConfig) -> Exercise:
        """A training example of a task as the model reads and writes it.

        Raises:
            ConfigError: If the example lacks what the extension learns from.
        """


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
    ) -> tuple[DecoderBatch | None, list[Exercise]]:
        """One lesson of the exercises of some rows, and those of them that could be used; None if none."""
        ready: dict[tuple[int, int], ModelInputs] = {}
        kept: list[tuple[int, Exercise]] = []
        answers: list[list[int]] = []
        writer = self.model.decoder(DECODER_OF[course.config.task])
        for row, one in ((row, one) for row, of_row in zip(rows, asked, strict=True) for one in of_row):
            read = self._transformed(course, one)
            answer = self._answer(course, row, read)
            if answer is None:
                continue
            try:
                if (row, one.key) not in ready:
                    ready[row, one.key] = self._prepared(course, row, one)
            except MediaError as error:
                self.failures[f"{course.config.table} {row}"] = str(error)
                continue
            ids = writer.answer_ids(answer)
            if len(ids) <= course.config.max_tokens:
                kept.append((row, replace(one, instruction=read.instruction)))
                answers.append(ids)
        if not kept:
            return None, []
        own, instructions = [ready[row, one.key] for row, one in kept], [one.instruction for _, one in kept]
        sequels = [
            TokenSequence(writer.prompt_ids(text), ids, place)
            for place, (text, ids) in enumerate(zip(instructions, answers, strict=True))
        ]
        writing = packed(sequels, self.pack) if self.pack else padded(sequels)
        media_batch = batch_of(self.model, [row for row, _ in kept], own, instructions)
        lesson = DecoderBatch(media_batch, DECODER_OF[course.config.task], writing, course.config.task)
        return lesson, [one for _, one in kept]

    def _transformed(self, course: Course, exercise: Exercise) -> Exercise:
        """An exercise as the model reads and writes it: after the transforms among its extensions."""
        for one in self.model.extensions.values():
            if isinstance(one, TransformsExamples):
                exercise = one.example(exercise, course.config)
        return exercise

    def _answer(self, course: Course, row: int, exercise: Exercise) -> str | list[int] | None:
        """A text, or the codes of a medium.

        None where no codes were made: it is not the first clip, or could not be read.
        """
        if isinstance(exercise.answer, str):
            return exercise.answer
        if course.codes is None or exercise.key or not len(course.codes[row]):
            return None
        return [int(code) for code in course.codes[row][:, 0]]

    def _prepared(self, course: Course, row: int, exercise: Exercise) -> ModelInputs:
        """Media of an exercise as the model's encoders take them; what it has no encoder for is left out."""
        ready: dict[str, np.ndarray | Tokens] = {}
        for name, data in exercise.media.items():
            known = course.tokens[name][row] if name in course.tokens and exercise.key == 0 else None
            if known is not None and len(known):
                mask = torch.ones(1, len(known), dtype=torch.bool)
                ready[name] = Tokens(torch.from_numpy(known)[None], mask)
            elif name in self.model.sources:
                opened = media.open(data, target_px=target_px(self.model, name))
                ready |= prepare(self.model, {name: opened})
        return ready


def _seconds(course: Course) -> Float64[np.ndarray, " n"] | None:
    """How long the speech of each row is that trains, where the task is about speech."""
    if course.config.task not in ("transcribe", "speak"):
        return None
    seconds = np.array(course.table.column("duration_s"), np.float64)
    found: Float64[np.ndarray, " n"] = np.nan_to_num(seconds)[course.train]
    return found


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
        self._orders = [
            Order(np.asarray(one.train, np.int64), batch_size, seed, sizes=_seconds(one)) for one in courses
        ]
        weights = np.array([one.config.weight for one in courses])
        self._shares = weights / weights.sum()
        self._seed = seed
        self._state = LoaderState(0, 0, seed)

    def __len__(self) -> int:
        """Batches in an epoch: as many as pass once over the rows of all tasks."""
        return sum(map(len, self._orders))

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[DecoderBatch]:
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

    def _lesson(self, number: int, epoch: int, seen: int) -> DecoderBatch | None:
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


def whole_lessons(
    model: MultimodalLM, course: Course, rows: Int64[np.ndarray, " n"]
) -> Iterator[tuple[DecoderBatch, Sequence[Exercise]]]:
    """Lessons of all exercises of some rows, each with the exercises that are in it, in its order."""
    teacher = Teacher(model)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        own = rows[start : start + _ROWS_AT_ONCE]
        asked = [course.exercises(sample) for sample in course.read(own)]
        lesson, kept = teacher.lesson(course, own.tolist(), asked)
        if lesson is not None:
            yield lesson.to(model.device), kept
