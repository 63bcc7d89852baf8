"""A request to the engine, and its results: pieces while it runs, a completion at the end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from sensorium.generation.decoder import Memory
from sensorium.generation.sampling import GREEDY, Sampling

Reason: TypeAlias = Literal["stop", "length", "cancelled"]
"""Why a sequence ended: by a stop id, stop string or finished grammar; by its length; by `cancel`."""


@runtime_checkable
class Guide(Protocol):
    """A constraint on the next id, such as a grammar (`constraint`); one object for each request."""

    def allowed(self) -> Bool[Tensor, " V"]:
        """Return the mask of allowed next ids (True: allowed)."""

    def accept(self, chosen: int) -> None:
        """Advance the state by the chosen id."""

    @property
    def is_finished(self) -> bool:
        """Whether no id may follow."""


@runtime_checkable
class LogitsProcessor(Protocol):
    """Changes the logits before an id is chosen; one object for each request."""

    def __call__(self, scores: Float[Tensor, " V"], generated: Sequence[int]) -> Float[Tensor, " V"]:
        """Return changed logits; `generated` are the ids generated so far, without the prompt."""


@dataclass(frozen=True)
class Request:
    """A sequence to generate.

    Attributes:
        prompt: Ids, or embeddings (N, D) of ids and media (`LanguageModel.embed` embeds ids).
        sampling: Sampling options and seed.
        max_tokens: Maximum number of new ids; None: up to the decoder's capacity.
        stop_ids: Ids that end the sequence; they are not part of the result.
        stops: Strings that end the text. They are not part of the text, but their ids are part of the ids.
        memory: Cross-attention keys and values, from `LanguageModel.memory_key_values`. Requests about the
            same media can share it.
        guide: Constraint on the ids.
        logits_processor: Applied after the constraint.
        lookup: Maximum number of draft ids of a step (prompt lookup decoding). The result is the same. It is
            faster where the text repeats its prompt.
        num_alternatives: Number of likeliest ids to report for each position.
    """

    prompt: Sequence[int] | Tensor
    sampling: Sampling = GREEDY
    max_tokens: int | None = None
    stop_ids: Collection[int] = frozenset()
    stops: Sequence[str] = ()
    memory: Memory | None = None
    guide: Guide | None = None
    logits_processor: LogitsProcessor | None = None
    lookup: int = 0
    num_alternatives: int = 0


@dataclass(frozen=True)
class Choice:
    """A generated id.

    Attributes:
        id: The id.
        logprob: Its log-probability by the unchanged logits of the model.
        alternatives: Likeliest ids of this position with their log-probabilities, best first.
    """

    id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Result of one step: new ids, and the text that became final, which may lag behind the ids."""

    choices: tuple[Choice, ...]
    text: str = ""

    @property
    def ids(self) -> tuple[int, ...]:
        """The new ids."""
        return tuple(choice.id for choice in self.choices)


@dataclass(frozen=True)
class Completion:
    """A finished sequence.

    Attributes:
        choices: Generated ids, without the stop id.
        text: Their text, up to the stop string; empty if the engine has no tokenizer.
        reason: Why it ended.
        num_prompt: Number of prompt tokens.
        num_accepted: Number of draft ids that were accepted; see `Request.lookup`.
    """

    choices: tuple[Choice, ...]
    text: str
    reason: Reason
    num_prompt: int
    num_accepted: int = field(default=0, compare=False)

    @property
    def ids(self) -> list[int]:
        """The generated ids."""
        return [choice.id for choice in self.choices]

    @property
    def logprobs(self) -> list[float]:
        """Log-probability of each id."""
        return [choice.logprob for choice in self.choices]
