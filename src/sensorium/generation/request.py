"""What is asked of the engine, and what it gives back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from sensorium.generation.decoder import Memory
from sensorium.generation.sampling import GREEDY, Sampling

Reason: TypeAlias = Literal["stop", "length", "cancelled"]
"""Why a sequence ended: a stop id, stop string or finished guide; its room; its client."""


@runtime_checkable
class Guide(Protocol):
    """Which ids may come next; one object for one request (see `constraint`)."""

    def allowed(self) -> Bool[Tensor, " V"]:
        """True for ids that may come next."""

    def accept(self, chosen: int) -> None:
        """Take note of the id that came."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing can come any more."""


@runtime_checkable
class Rule(Protocol):
    """Changes scores by what they are and by what was written; one object for one request."""

    def __call__(self, scores: Float[Tensor, " V"], written: Sequence[int]) -> Float[Tensor, " V"]:
        """Return the scores to choose by; `written` are the new ids so far, the prompt is not among them."""


@dataclass(frozen=True)
class Request:
    """One sequence to be written.

    Attributes:
        prompt: Ids, or vectors (N, D) of ids and media mixed (`LanguageModel.embed` makes those of ids).
        sampling: How ids are chosen, with the seed.
        max_tokens: Most new ids; None: as many as there is room for.
        stop_ids: Ids that end the sequence; they are not part of it.
        stops: Strings that end the text; they are not part of it. Their ids are.
        memory: What cross-attention sees, from `LanguageModel.memory_key_values`; whoever asks about the
            same media again keeps it.
        guide: Rules ids out, as a grammar does.
        rule: Changes the scores that the guide left, as the marks for times in a transcript do.
        lookup: Most ids to be guessed at once from what was written before; the result is the same, sooner
            where the text repeats its prompt.
        num_alternatives: How many of the likeliest ids are reported at each place.
    """

    prompt: Sequence[int] | Tensor
    sampling: Sampling = GREEDY
    max_tokens: int | None = None
    stop_ids: Collection[int] = frozenset()
    stops: Sequence[str] = ()
    memory: Memory | None = None
    guide: Guide | None = None
    rule: Rule | None = None
    lookup: int = 0
    num_alternatives: int = 0


@dataclass(frozen=True)
class Choice:
    """One id that was written.

    Attributes:
        id: The id.
        logprob: Logarithm of the probability that the model itself gave it.
        alternatives: The likeliest ids there with theirs, the likeliest first.
    """

    id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """What a step added: ids, and the text that became certain, which may lag behind."""

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
        choices: What was written, without the stop id.
        text: Of these ids, up to the stop string; empty if the engine has no decoder of ids.
        reason: Why it ended.
        num_prompt: Length of the prompt.
        num_guessed: How many ids were guessed right by `lookup`.
    """

    choices: tuple[Choice, ...]
    text: str
    reason: Reason
    num_prompt: int
    num_guessed: int = field(default=0, compare=False)

    @property
    def ids(self) -> list[int]:
        """What was written."""
        return [choice.id for choice in self.choices]

    @property
    def logprobs(self) -> list[float]:
        """Log-probability of each id."""
        return [choice.logprob for choice in self.choices]
