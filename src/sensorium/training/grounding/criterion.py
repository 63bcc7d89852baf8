"""Losses and recipe of grounders, with boxes and without.

With boxes: cross-entropy of each phrase over the places of its image and "absent", the target spread evenly
over the places on the named objects; generalised IoU of the boxes that the right places predict; optionally,
which words are said of which object. Without boxes: which words are said of which image (word presence), or
whole captions against images (FILIP).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from sensorium.core.config import Config
from sensorium.core.types import Tokens
from sensorium.losses.late_interaction import filip
from sensorium.losses.multiple_instance import multiple_instance_bce, unique_words
from sensorium.models.grounder import Grounder, GrounderConfig, GrounderOutput, PhraseBatch, centres
from sensorium.nn.boxes import generalised_iou
from sensorium.training.criterion import Objective
from sensorium.training.recipe import HeldOut, TrainConfig

_CORE = 0.5
"""Share of a box's sides within which a place counts as on the object."""


class GroundingData(Config):
    """Which rows.

    Attributes:
        table: A media table whose rows have regions; training without boxes uses captions alone.
        test: Held-out sources, each measured separately.
        texts_per_image: Texts of an image in a batch, each with all its phrases; 0: one whole caption,
            without boxes.
        max_measured: Held-out rows of each source that are measured during training.
        vocab_size: Size of the byte-pair vocabulary trained on the training texts.
    """

    table: str
    test: HeldOut
    texts_per_image: int = Field(default=3, ge=0)
    max_measured: int = Field(default=300, ge=1)
    vocab_size: int = Field(default=1024, ge=260)


class GroundingRecipe(Config):
    """A training run of a grounder.

    Attributes:
        task: "grounding", which names the kind of recipe.
        seed: Names every random choice.
        data: Which rows.
        model: Encoders and blocks; `depth` 0 trains without boxes.
        box_weight: Weight of the box loss; the place loss has weight 1.
        names_weight: Weight of the loss of words said of objects, if the model `names`.
        places_step: Without boxes: largest step of a random subsampling of places, which makes the model use
            all of an object and not its most discriminative place alone.
        train: Optimiser, length, precision, evaluation.
    """

    task: str = Field(default="grounding", pattern="^grounding$")
    seed: int = Field(default=0, ge=0)
    data: GroundingData
    model: GrounderConfig
    box_weight: float = Field(default=1.0, gt=0)
    names_weight: float = Field(default=1.0, gt=0)
    places_step: int = Field(default=1, ge=1)
    train: TrainConfig

    @model_validator(mode="after")
    def _boxes_or_none(self) -> GroundingRecipe:
        if (self.model.depth == 0) != (self.data.texts_per_image == 0):
            raise ValueError(
                f"model.depth={self.model.depth}, data.texts_per_image={self.data.texts_per_image}; training "
                "without boxes sets both to 0, training with boxes neither"
            )
        if self.model.names and self.model.depth == 0:
            raise ValueError(
                "model.names needs boxes; without, contrast = 'words' learns from captions alone"
            )
        if self.names_weight != 1.0 and not self.model.names:  # recipes beside runs hold the default
            raise ValueError("names_weight goes with model.names = true; set it, or leave the weight out")
        return self


@dataclass(frozen=True)
class Grounding:
    """Loss of grounders.

    Attributes:
        box_weight: Weight of the box loss.
        names_weight: Weight of the loss of words said of objects.
        places_step: Largest step of the random subsampling of places, without boxes.
    """

    box_weight: float = 1.0
    names_weight: float = 1.0
    places_step: int = 1

    def __call__(self, model: Grounder, outputs: GrounderOutput, batch: PhraseBatch) -> Objective:
        """Compute the loss with boxes, or without where the model predicts none."""
        if outputs.boxes is None or outputs.absent is None:
            return self._by_captions(model, outputs, batch)
        where = on_things(centres(model.grid, model.size_px, batch.boxes.device), batch)
        place = place_loss(outputs.scores, outputs.absent, where.any(dim=1))
        box = box_loss(outputs.boxes, batch.boxes, where)
        total, parts = place + self.box_weight * box, {"place": place, "box": box}
        if model.config.names:
            parts["names"] = names_loss(outputs.patches.values, outputs.words.values, batch, where)
            total = total + self.names_weight * parts["names"]
        return Objective(total, parts)

    def _by_captions(self, model: Grounder, outputs: GrounderOutput, batch: PhraseBatch) -> Objective:
        places, words = some_places(outputs.patches, self.places_step), outputs.words
        if model.scale is not None:
            loss = filip(places.values, words.values, places.mask, words.mask, model.scale())
            return Objective(loss, {"filip": loss})
        where, said = unique_words(batch.texts.values, batch.texts.mask)
        loss = multiple_instance_bce(places.values, words.values.flatten(0, 1)[where], said, places.mask)
        return Objective(loss, {"words": loss})

    def log_values(self, model: Grounder) -> Mapping[str, float]:
        """The logit scale of a model that compares captions."""
        return {} if model.scale is None else {"logit_scale": float(model.scale().detach())}

    def bad_rows(self, outputs: GrounderOutput, batch: PhraseBatch) -> list[int]:
        """Rows of phrases with a score that is not finite."""
        wrong = ~outputs.scores.detach().isfinite().all(dim=1).cpu()
        images = batch.image_of_text.cpu()[batch.text_of_phrase.cpu()[wrong]]
        return sorted({int(row) for row in batch.rows[images]})


def some_places(places: Tokens, step: int) -> Tokens:
    """Every k-th row and column of a square grid; torch's generator draws k, up to `step`, and the start.

    An object must then be recognised from any of its places (Hide-and-Seek, Singh and Lee, arXiv 1704.04232).
    """
    step = int(torch.randint(1, step + 1, ()))
    grid = isqrt(places.values.shape[1])
    top, left = torch.randint(step, (2,)).tolist()
    kept = (
        torch.arange(grid**2, device=places.mask.device).reshape(grid, grid)[top::step, left::step].flatten()
    )
    return Tokens(places.values[:, kept], places.mask[:, kept])


def on_things(middles: Float[Tensor, "M 2"], batch: PhraseBatch) -> Bool[Tensor, "P K M"]:
    """Which places lie on which box of each phrase: within its core, or nearest to its centre."""
    real = torch.arange(batch.boxes.shape[1], device=batch.boxes.device) < batch.num_boxes[:, None]
    middle = (batch.boxes[..., :2] + batch.boxes[..., 2:]) / 2
    half = (batch.boxes[..., 2:] - batch.boxes[..., :2]) / 2
    apart = (middles - middle[:, :, None]).abs()
    inside = (apart <= _CORE * half[:, :, None]).all(dim=-1)
    nearest = functional.one_hot(apart.square().sum(dim=-1).argmin(dim=-1), len(middles)).bool()
    return (inside | nearest) & real[..., None]


def place_loss(
    scores: Float[Tensor, "P M"], absent: Float[Tensor, " P"], on_any: Bool[Tensor, "P M"]
) -> Float[Tensor, ""]:
    """Cross-entropy over places and "absent", the target spread evenly over the right places."""
    is_absent = ~on_any.any(dim=1)
    target = torch.cat([on_any, is_absent[:, None]], dim=1).to(scores.dtype)
    target = target / target.sum(dim=1, keepdim=True)
    return functional.cross_entropy(torch.cat([scores, absent[:, None]], dim=1), target)


def names_loss(
    places: Float[Tensor, "B M E"],
    words: Float[Tensor, "T N E"],
    batch: PhraseBatch,
    where: Bool[Tensor, "P K M"],
) -> Float[Tensor, ""]:
    """Word presence of each object, its places taken as an image: which words of the batch name it."""
    phrase, number = where.any(dim=2).nonzero(as_tuple=True)
    if len(phrase) == 0:
        return places.sum() * 0.0
    image = batch.image_of_text[batch.text_of_phrase[phrase]]
    which_box = torch.cat([image[:, None].float(), batch.boxes[phrase, number]], dim=1)
    things, thing = which_box.unique(dim=0, return_inverse=True)
    first, said = unique_words(batch.texts.values[batch.text_of_phrase], batch.spans)
    vectors = words[batch.text_of_phrase].flatten(0, 1)[first]
    of_thing = said.new_zeros(len(things), said.shape[1], dtype=torch.float32)
    lies = of_thing.new_zeros(len(things), places.shape[1])
    of_thing.index_add_(0, thing, said[phrase].float())
    lies.index_add_(0, thing, where[phrase, number].float())
    return multiple_instance_bce(places[things[:, 0].long()], vectors, of_thing > 0, lies > 0)


def box_loss(
    told: Float[Tensor, "P M 4"], boxes: Float[Tensor, "P K 4"], where: Bool[Tensor, "P K M"]
) -> Float[Tensor, ""]:
    """Mean over the right places of 1 - generalised IoU of their boxes; 0 if there are none."""
    phrase, number, place = where.nonzero(as_tuple=True)
    if len(phrase) == 0:
        return told.sum() * 0.0
    return (1 - generalised_iou(told[phrase, place], boxes[phrase, number])).mean()
