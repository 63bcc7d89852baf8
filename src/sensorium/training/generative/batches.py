"""Batches of a mixture of tasks for a multimodal language model, in training and evaluation.

In: the tasks of a recipe with their tables, and a model that prepares media and tokenises text. Out: batches
of one task each. The task of a batch is drawn with the tasks' weights, its rows follow the task's own
permutation; both depend on seed and epoch alone. Media shared by several examples are read and encoded once.
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
from sensorium.data.loading.epochs import Epochs
from sensorium.data.loading.order import Order
from sensorium.data.questions import questions_of
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.data.table.vectors import Ragged
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.processor import ModelInputs, batch_of, prepare, target_px
from sensorium.models.prompts import DECODER_OF
from sensorium.models.sequences import DecoderBatch, TokenSequence, packed, padded
from sensorium.training.generative.examples import COLUMNS, Example, examples_of
from sensorium.training.generative.recipe import TaskConfig

_STREAM = 17
"""Separates the draws made here from other random streams of the same seed."""
_ROWS_AT_ONCE = 16
_ROWS_FOR_TYPES = 200
_MAX_PASSES = 100_003
"""More than the passes that a task makes over its rows in one epoch."""


@dataclass(frozen=True)
class TaskData:
    """One task with its rows.

    Attributes:
        config: The task.
        table: Its table.
        train: Rows that train.
        test: Held-out rows, by name.
        tokens: Cached outputs of frozen encoders by modality, (N, D) for each row of the table.
        codes: Cached codec ids of each row's medium, (N, 1); None if the task writes text.
    """

    config: TaskConfig
    table: Table
    train: Int64[np.ndarray, " n"]
    test: Mapping[str, Int64[np.ndarray, " m"]]
    tokens: Mapping[str, Ragged] = field(default_factory=dict)
    codes: Ragged | None = None

    def read(self, rows: Sequence[int] | np.ndarray, *, text_only: bool = False) -> list[Sample]:
        """Read the columns that the task needs; without media it is faster."""
        columns = [one for one in COLUMNS[self.config.task] if not text_only or one in ("texts", "meta")]
        return self.table.rows(rows, columns=columns)

    def examples(self, sample: Sample) -> list[Example]:
        """The examples that a row holds."""
        config = self.config
        found = examples_of(sample, config.task, config.languages, config.source_language)
        return [one for one in found if not config.types or one.type in config.types]

    def check_types(self) -> None:
        """Refuse types of questions that do not occur in the first rows.

        Raises:
            ConfigError: With the types that occur.
        """
        asked = set(self.config.types)
        some = self.read(self.train[:_ROWS_FOR_TYPES], text_only=True) if asked else []
        known = {one.type for sample in some for one in questions_of(sample)}
        if asked - known:
            raise ConfigError(
                f"task '{self.config.task}' over {self.config.table}: no question of type "
                f"'{min(asked - known)}' in {len(some)} rows; known: {', '.join(sorted(known)) or 'none'}"
            )


@runtime_checkable
class TransformsExamples(Protocol):
    """A model extension that changes training examples."""

    def example(self, example: Example, config: TaskConfig) -> Example:
        """A training example with the instruction and answer that the model trains on.

        Raises:
            ConfigError: If the example lacks something that the extension needs.
        """


@dataclass
class Collator:
    """Makes batches of examples for a model.

    Attributes:
        model: Its encoders prepare media, its decoders tokenise texts.
        pack: Ids in a packed row of several sequences; 0: one sequence a row.
        failures: Rows that could not be used, by name, with the reason.
    """

    model: MultimodalLM
    pack: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def batch(
        self, data: TaskData, rows: Sequence[int], examples: Sequence[Sequence[Example]]
    ) -> tuple[DecoderBatch | None, list[Example]]:
        """Collate the examples of some rows.

        Returns:
            The batch, or None if no example can be used; and the examples in it.
        """
        ready: dict[tuple[int, int], ModelInputs] = {}
        kept: list[tuple[int, Example]] = []
        answers: list[list[int]] = []
        decoder = self.model.decoder(DECODER_OF[data.config.task])
        for row, one in ((row, one) for row, of_row in zip(rows, examples, strict=True) for one in of_row):
            changed = self._transformed(data, one)
            answer = self._answer(data, row, changed)
            if answer is None:
                continue
            try:
                if (row, one.key) not in ready:
                    ready[row, one.key] = self._prepared(data, row, one)
            except MediaError as error:
                self.failures[f"{row} ({data.table.ids[row]} in {data.config.table})"] = str(error)
                continue
            ids = decoder.answer_ids(answer)
            if len(ids) <= data.config.max_tokens:
                kept.append((row, replace(one, instruction=changed.instruction)))
                answers.append(ids)
        if not kept:
            return None, []
        own, instructions = [ready[row, one.key] for row, one in kept], [one.instruction for _, one in kept]
        sequences = [
            TokenSequence(decoder.prompt_ids(text), ids, place)
            for place, (text, ids) in enumerate(zip(instructions, answers, strict=True))
        ]
        writing = packed(sequences, self.pack) if self.pack else padded(sequences)
        media_batch = batch_of(self.model, [row for row, _ in kept], own, instructions)
        batch = DecoderBatch(media_batch, DECODER_OF[data.config.task], writing, data.config.task)
        return batch, [one for _, one in kept]

    def _transformed(self, data: TaskData, example: Example) -> Example:
        for one in self.model.extensions.values():
            if isinstance(one, TransformsExamples):
                example = one.example(example, data.config)
        return example

    def _answer(self, data: TaskData, row: int, example: Example) -> str | list[int] | None:
        """A text, or codec ids; None without ids: a further clip of the row, or a damaged one."""
        if isinstance(example.answer, str):
            return example.answer
        if data.codes is None or example.key or not len(data.codes[row]):
            return None
        return [int(code) for code in data.codes[row][:, 0]]

    def _prepared(self, data: TaskData, row: int, example: Example) -> ModelInputs:
        """Encoder inputs, or cached encoder outputs, of an example's media; others are left out."""
        ready: dict[str, np.ndarray | Tokens] = {}
        for name, encoded in example.media.items():
            known = data.tokens[name][row] if name in data.tokens and example.key == 0 else None
            if known is not None and len(known):
                mask = torch.ones(1, len(known), dtype=torch.bool)
                ready[name] = Tokens(torch.from_numpy(known)[None], mask)
            elif name in self.model.sources:
                opened = media.open(encoded, target_px=target_px(self.model, name))
                ready |= prepare(self.model, {name: opened})
        return ready


def mixed_batches(
    tasks: Sequence[TaskData], collator: Collator, *, batch_size: int, seed: int
) -> Epochs[DecoderBatch]:
    """Training batches of a mixture of tasks; an epoch has as many as one pass over the rows of all tasks.

    Args:
        tasks: The tasks.
        collator: Makes batches.
        batch_size: Rows in a batch, each with up to `per_row` examples.
        seed: Names the order and the choice among examples.
    """
    orders = [Order(np.asarray(one.train, np.int64), batch_size, seed, sizes=_seconds(one)) for one in tasks]
    weights = np.array([one.config.weight for one in tasks])
    num_batches = sum(map(len, orders))

    def draw(found: list[Example], most: int, walk: int, row: int) -> list[Example]:
        if len(found) <= most:
            return found
        rng = np.random.default_rng([seed, _STREAM, walk, row])
        return [found[place] for place in sorted(rng.permutation(len(found))[:most].tolist())]

    def batch(number: int, epoch: int, num_before: int) -> DecoderBatch | None:
        """The next batch of a task after `num_before` others of it in this epoch."""
        data, order = tasks[number], orders[number]
        round_, place = divmod(num_before, len(order))
        walk = epoch * _MAX_PASSES + round_
        rows = order.permuted(walk)[place * batch_size : (place + 1) * batch_size]
        examples = [
            draw(data.examples(sample), data.config.per_row, walk, row)
            for row, sample in zip(rows.tolist(), data.read(rows), strict=True)
        ]
        return collator.batch(data, rows.tolist(), examples)[0]

    def batches(epoch: int, first: int) -> Iterator[DecoderBatch | None]:
        rng = np.random.default_rng([seed, _STREAM, epoch])
        which = rng.choice(len(tasks), num_batches, p=weights / weights.sum())
        for index in range(first, num_batches):
            number = int(which[index])
            yield batch(number, epoch, int((which[:index] == number).sum()))

    return Epochs(num_batches, seed, batches)


def _seconds(data: TaskData) -> Float64[np.ndarray, " n"] | None:
    """Duration of the speech of each training row; None for tasks without speech."""
    if data.config.task not in ("transcribe", "speak"):
        return None
    seconds = np.array(data.table.column("duration_s"), np.float64)
    found: Float64[np.ndarray, " n"] = np.nan_to_num(seconds)[data.train]
    return found


def all_batches(
    model: MultimodalLM, data: TaskData, rows: Int64[np.ndarray, " n"]
) -> Iterator[tuple[DecoderBatch, Sequence[Example]]]:
    """Batches of all examples of some rows, in order, each with its examples."""
    collator = Collator(model)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        own = rows[start : start + _ROWS_AT_ONCE]
        examples = [data.examples(sample) for sample in data.read(own)]
        batch, kept = collator.batch(data, own.tolist(), examples)
        if batch is not None:
            yield batch.to(model.device), kept
