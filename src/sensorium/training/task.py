"""Contract between the trainer and the kinds of training: embedding, generative, codec, grounding.

Each kind turns its recipe into a `Task`: model, batches, criterion, evaluation and the texts of the card. The
loop (`training.loop`) and the trainer (`training.trainer`) know nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import nn

from sensorium.data.loading.order import LoaderState
from sensorium.training.card import Card
from sensorium.training.criterion import Batch, Criterion
from sensorium.training.log import Figures
from sensorium.training.recipe import TrainConfig


@runtime_checkable
class Batches(Protocol):
    """Training batches: their order depends on seed and epoch alone, and can be entered anywhere."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from the one numbered `offset` on."""

    def state(self) -> LoaderState:
        """The position after the last batch."""


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        score: Chooses the best model; higher is better.
        score_name: What it measures.
        metrics: By kind, as {"image->text": {"R@1": 0.5}}.
    """

    score: float
    score_name: str = "score"
    metrics: Mapping[str, Figures] = field(default_factory=dict)


@runtime_checkable
class TrainingRecipe(Protocol):
    """What the trainer reads of any recipe."""

    @property
    def seed(self) -> int:
        """Names every random choice."""

    @property
    def train(self) -> TrainConfig:
        """Optimiser, length, precision, evaluation."""

    def model_dump(self, *, mode: str = ..., exclude_none: bool = ...) -> dict[str, Any]:
        """The recipe as plain values."""


def _names(rows: Sequence[int]) -> list[str]:
    return [str(row) for row in rows]


def _no_card(evaluation: Evaluation | None) -> Card:
    return Card("Model", "not described", [], "nothing", [], [])


@dataclass(frozen=True)
class Task:
    """A model, and everything that the trainer needs to train it.

    Attributes:
        recipe: DecoderOutput into the run's folder.
        model: Trained in place; `models.checkpoint` must know its class.
        batches: Training batches.
        criterion: The loss.
        data: Plain values that identify the data; a resumed run must have equal ones.
        evaluate: Measures the averaged model; None keeps the last one.
        describe: Texts of the card for the best evaluation.
        name_rows: Names of rows for messages.
        failures: Rows that could not be read so far, by name, with the reason.
        pretrained: Names of parameters that come from another run.
        next_step: A command for the trained model; `{run}` stands for its folder.
    """

    recipe: TrainingRecipe
    model: nn.Module
    batches: Batches
    criterion: Criterion
    data: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Callable[[Any], Evaluation] | None = None
    describe: Callable[[Evaluation | None], Card] = _no_card
    name_rows: Callable[[Sequence[int]], list[str]] = _names
    failures: Callable[[], Mapping[str, str]] = dict
    pretrained: Collection[str] = ()
    next_step: str = ""
