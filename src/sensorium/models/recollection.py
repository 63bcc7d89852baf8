"""What a picture brings to mind: texts of training pictures like it, and names that its encoder knows.

In: the mean token of a frozen encoder for each training picture, and its text; then that of one in view.
Out: texts with weights that sum to 1: of training texts by how alike the pictures are,

    w_i ~ exp(k_i . q / t)      k, q: mean tokens less the mean of all, of length 1;  t = .07

and of the encoder's own classes, where it has a classifier and the configuration says how one is told, by
their probabilities, in all .85 of the weight of the others. A writer that learned from some hundred pictures
knows few words; so it is told those that it has not (`generation.recalled`). Both constants were chosen on
629 training stamps, each told from the others: CIDEr-D .90, where the nearest one's caption has .61.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.config import Config
from sensorium.core.types import MediaBatch

_TEMPERATURE = 0.07
_WEIGHT_OF_NAMES = 0.85
_LEAST = 1e-3
"""Weight below which a text does not come to mind."""


@runtime_checkable
class Names(Protocol):
    """An encoder that comes with its own classifier."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of each class; synonyms are separated by ", "."""

    def classify(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B classes"]:
        """Logits of each class, of mean tokens."""


class RecallConfig(Config):
    """How much a writer of captions follows what comes to mind.

    Attributes:
        share: Of the odds of the next word that is not the writer's own.
        names: How a class that the encoder can name is told, as "A {name}."; empty: not at all.
        texts: What is remembered, in JSON; training fills it in.
    """

    share: float = Field(default=0.9, gt=0, lt=1)
    names: str = ""
    texts: str = "[]"


class Recollection(nn.Module):
    """Pictures and their texts.

    Args:
        config: With the texts.
        dim: Width D of the encoder's tokens.

    Attributes:
        texts: What is remembered.

    Example:
        >>> known = Recollection(RecallConfig(), dim=2)
        >>> known.remember(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), ["a frog", "a key"]).texts
        '["a frog", "a key"]'
        >>> [text for text, _ in known(torch.tensor([5.0, 1.0]), nn.Identity())]
        ['a frog']
    """

    keys: Tensor
    mean: Tensor

    def __init__(self, config: RecallConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.texts: list[str] = json.loads(config.texts)
        self.register_buffer("keys", torch.zeros(len(self.texts), dim))
        self.register_buffer("mean", torch.zeros(dim))

    @torch.no_grad()
    def remember(self, vectors: Float[Tensor, "n D"], texts: Sequence[str]) -> RecallConfig:
        """Remember these pictures, and no others; the configuration with their texts."""
        self.mean = vectors.mean(0)
        self.keys, self.texts = functional.normalize(vectors - self.mean, dim=-1), list(texts)
        known = json.dumps(self.texts, ensure_ascii=False)
        self.config = self.config.model_copy(update={"texts": known})
        return self.config

    @torch.no_grad()
    def forward(self, vector: Float[Tensor, " D"], encoder: nn.Module) -> list[tuple[str, float]]:
        """What a picture brings to mind, the weightiest first.

        Args:
            vector: Its mean token.
            encoder: That it is of.
        """
        alike = self.keys @ functional.normalize(vector - self.mean, dim=-1)
        found = list(zip(self.texts, (alike / _TEMPERATURE).softmax(-1).tolist(), strict=True))
        if self.config.names and isinstance(encoder, Names):
            odds = (_WEIGHT_OF_NAMES * encoder.classify(vector[None])[0].softmax(-1)).tolist()
            told = [_told(self.config.names, name.split(", ")[0]) for name in encoder.class_names]
            found += zip(told, odds, strict=True)
        kept = sorted((one for one in found if one[1] > _LEAST), key=lambda one: -one[1])
        whole = sum(weight for _, weight in kept)
        return [(text, weight / whole) for text, weight in kept]

    def of_rows(self, media: MediaBatch, encoder: nn.Module) -> list[list[tuple[str, float]]]:
        """The same for each row of a batch of tokens; nothing for rows without a picture."""
        found: list[list[tuple[str, float]]] = [[] for _ in media.rows]
        if "image" not in media.tokens:
            return found
        own, present = media.tokens["image"], media.present["image"]
        counts = own.mask.sum(dim=1, keepdim=True).clamp(min=1)
        pooled = (own.values * own.mask[..., None]).sum(dim=1) / counts
        places = media.shared.get("image", torch.arange(len(present)))
        for row, place in zip(present.tolist(), places.tolist(), strict=True):
            found[row] = self(pooled[place], encoder)
        return found


def _told(template: str, name: str) -> str:
    """A class in the words of a caption; before a vowel "a" is "an"."""
    return re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", template.replace("{name}", name))
