"""The grounder: an image and a text in, for each phrase of the text a map of places and a box out.

An image encoder gives places, a text encoder words; a Transformer in which both attend to each other lets
"left of" be understood. A phrase is the mean of its words; its score at a place is their scaled product.
Trained with boxes, each place also tells the box of the thing that lies on it (distances to its four sides,
FCOS: arXiv 1904.01355) and the phrase has a score for "not there"; and a place may learn, before it meets any
word, which words are said of what lies on it. Trained without boxes, places and words have met in a
contrastive loss alone, and boxes are found outside (`tasks.ground`).
Does not know losses, tables or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, log
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field, JsonValue
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.config import Config
from sensorium.core.errors import ConfigError
from sensorium.core.types import Padded, Tokens
from sensorium.encoders import ENCODERS, Encoder
from sensorium.models.scale import LogitScale
from sensorium.nn.block import BlockConfig, Stack
from sensorium.nn.matching import heat_maps, phrase_vectors, place_log_probs
from sensorium.nn.position import LearnedPositions, grid_positions

_USUAL_SIDE = 0.12
"""Share of the picture from a thing's middle to its side, where training starts."""
_RARE = -2.0
"""Logit of any word at any place, where training starts without boxes: said of one image in eight."""


class PartConfig(Config):
    """An encoder by its registered name, with its own options."""

    encoder: str
    options: dict[str, JsonValue] = Field(default_factory=dict)


class GrounderConfig(Config):
    """A grounder.

    Attributes:
        image: Encoder whose tokens lie on a square grid.
        text: Encoder of words.
        dim: Width D in which places and words meet.
        depth: Blocks in which they attend to each other, trained with boxes; 0: they meet in a contrastive
            loss alone, trained without boxes, and relations stay unresolved.
        contrast: At depth 0, what finds its images: each of the `words` by itself
            (`losses.multiple_instance`; a product is the logit of a word at a place), or `captions` as wholes
            (`losses.late_interaction`; a product is a cosine).
        names: Trained with boxes: whether places learn words before they meet (`losses.multiple_instance`,
            each thing for an image). Choosing a place among those of one image teaches kinds far later.
        num_heads: Of these blocks.
        dropout: In these blocks.
    """

    image: PartConfig
    text: PartConfig
    dim: int = Field(default=128, ge=1)
    depth: int = Field(default=3, ge=0)
    contrast: Literal["words", "captions"] = "words"
    names: bool = False
    num_heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


@dataclass(frozen=True)
class PhraseBatch:
    """Images, texts and phrases; each phrase is of one text, each text of one image.

    Attributes:
        rows: Row numbers of the images, (B,).
        images: Normalised pixels.
        texts: Ids of T texts.
        image_of_text: Which image each text is about.
        text_of_phrase: Which text each phrase is of.
        spans: True = the token is of the phrase.
        boxes: Up to K boxes of each phrase, (x0, y0, x1, y1) in pixels of `images`.
        num_boxes: How many of them are real; 0 = what the phrase names is not there.
    """

    rows: Int64[Tensor, " B"]
    images: Padded
    texts: Padded
    image_of_text: Int64[Tensor, " T"]
    text_of_phrase: Int64[Tensor, " P"]
    spans: Bool[Tensor, "P N"]
    boxes: Float[Tensor, "P K 4"]
    num_boxes: Int64[Tensor, " P"]

    def to(self, device: torch.device | str) -> PhraseBatch:
        """Return a copy with everything but `rows` on `device`."""
        return PhraseBatch(
            self.rows,
            self.images.to(device),
            self.texts.to(device),
            *(
                part.to(device)
                for part in (self.image_of_text, self.text_of_phrase, self.spans, self.boxes, self.num_boxes)
            ),
        )


@dataclass(frozen=True)
class Found:
    """What a grounder gives for a batch.

    Attributes:
        scores: Of each phrase at each place, logits; log-probabilities (`nn.matching.place_log_probs`)
            where words were contrasted, cosines where captions were.
        absent: Logit of "not there", or None where it was never trained.
        boxes: The box that each place tells, in pixels of the input; None where never trained.
        places: What the images gave, as it is compared with words that it has not met.
        words: What the texts gave, alike.
    """

    scores: Float[Tensor, "P M"]
    absent: Float[Tensor, " P"] | None
    boxes: Float[Tensor, "P M 4"] | None
    places: Tokens
    words: Tokens


class Meeting(nn.Module):
    """Blocks in which places and words attend to each other, and what is read from them then.

    Args:
        config: Of the grounder.
        grid: Rows of places, and columns.
        size_px: Side of the input.
    """

    def __init__(self, config: GrounderConfig, grid: int, size_px: int) -> None:
        super().__init__()
        self.grid = grid
        self.size_px = size_px
        self.positions = LearnedPositions(grid**2, config.dim)
        self.coordinates = nn.Linear(2, config.dim)
        block = BlockConfig(
            dim=config.dim,
            num_heads=config.num_heads,
            rotary_axes=2,
            rotary_base=100.0,
            dropout=config.dropout,
        )
        self.stack = Stack(block, config.depth)
        self.query = nn.Linear(config.dim, config.dim)
        self.sides = nn.Linear(config.dim, 4)
        self.absent = nn.Linear(config.dim, 1)
        nn.init.normal_(self.sides.weight, std=0.01)
        nn.init.constant_(self.sides.bias, log(_USUAL_SIDE))

    def forward(
        self, places: Float[Tensor, "B M D"], words: Tokens, batch: PhraseBatch
    ) -> tuple[Float[Tensor, "P M"], Float[Tensor, " P"], Float[Tensor, "P M 4"]]:
        """Score every phrase at every place of its image and as not there, and tell the boxes."""
        own, said = self._attend(places[batch.image_of_text], words)
        of_phrase = batch.text_of_phrase
        phrases = phrase_vectors(said[of_phrase], batch.spans)
        scores = torch.einsum("pmd,pd->pm", own[of_phrase], self.query(phrases)) * own.shape[-1] ** -0.5
        boxes = self._boxes(self.sides(own).float())
        return scores.float(), self.absent(phrases)[:, 0].float(), boxes[of_phrase]

    def _attend(
        self, places: Float[Tensor, "T M D"], words: Tokens
    ) -> tuple[Float[Tensor, "T M D"], Float[Tensor, "T N D"]]:
        """Run the blocks over both; words stand at the middle of the grid.

        Places carry their coordinates in -1..1 as they are, for "left of" is a difference of these.
        """
        at = 2 * centres(self.grid, self.size_px, places.device) / self.size_px - 1
        both = torch.cat([self.positions(places) + self.coordinates(at), words.values], dim=1)
        real = torch.cat([words.mask.new_ones(places.shape[:2]), words.mask], dim=1)
        steps = grid_positions(self.grid, self.grid, places.device)
        middle = steps.new_full((1, words.values.shape[1], 2), self.grid // 2)
        both = self.stack(both, real, positions=torch.cat([steps, middle], dim=1))
        return both[:, : places.shape[1]], both[:, places.shape[1] :]

    def _boxes(self, sides: Float[Tensor, "T M 4"]) -> Float[Tensor, "T M 4"]:
        """Boxes from the logarithms of the distances to the left, top, right and bottom side."""
        distance = sides.clamp(-6, 1).exp() * self.size_px
        middle = centres(self.grid, self.size_px, sides.device)
        return torch.cat([middle - distance[..., :2], middle + distance[..., 2:]], dim=-1)


class Grounder(nn.Module):
    """Places, words, and blocks in which they meet.

    Args:
        config: What to build. Weights come from torch's global generator.
        pretrained: Not used: there are no pretrained parts.

    Attributes:
        grid: Rows of places, and columns.
        shift_px: How far the places lie to the right of and below the middles of the cells of an even grid.
            Boxes that are learned allow for it by themselves.

    Raises:
        ConfigError: If an encoder is of another modality, or its places do not lie on a square.
    """

    def __init__(self, config: GrounderConfig, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.image = _encoder(config.image, "image")
        self.text = _encoder(config.text, "text")
        self.size_px = int(getattr(self.image.input, "size_px", 0))
        self.grid = self._grid()
        half_px = self.size_px / self.grid / 2
        self.shift_px = float(getattr(self.image, "first_px", half_px)) - half_px
        self.place = nn.Linear(self.image.dim, config.dim)
        self.word = nn.Linear(self.text.dim, config.dim)
        self.meeting = Meeting(config, self.grid, self.size_px) if config.depth else None
        by = "words" if config.names else config.contrast if config.depth == 0 else ""
        self.scale = LogitScale(1 / 0.07) if by == "captions" else None
        self.offset = nn.Linear(self.text.dim, 1) if by == "words" else None
        if self.offset is not None:
            nn.init.normal_(self.word.weight, std=1 / config.dim)
            nn.init.zeros_(self.offset.weight)
            nn.init.constant_(self.offset.bias, _RARE)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.word.weight.device

    def forward(self, batch: PhraseBatch) -> Found:
        """Score every phrase of a batch at every place of its image."""
        own, said = self.place(self.image(batch.images).values), self.text(batch.texts).values
        words, mask = self.word(said), batch.texts.mask
        real = torch.ones(own.shape[:2], dtype=torch.bool, device=own.device)
        places, named = self._compared(own, words, said)
        before = Tokens(places, real), Tokens(named, mask)
        if self.meeting is not None:
            scores, absent, boxes = self.meeting(own, Tokens(words, mask), batch)
            return Found(scores, absent, boxes, *before)
        both = places[batch.image_of_text[batch.text_of_phrase]], named[batch.text_of_phrase]
        scores = heat_maps(*both, batch.spans) if self.offset is None else place_log_probs(*both, batch.spans)
        return Found(scores.float(), None, None, *before)

    def _compared(
        self, places: Float[Tensor, "B M D"], words: Float[Tensor, "T N D"], said: Float[Tensor, "T N _"]
    ) -> tuple[Float[Tensor, "B M _"], Float[Tensor, "T N _"]]:
        """Vectors whose products tell of words at places: with an offset for each word, or of length 1."""
        if self.offset is None:
            return functional.normalize(places, dim=-1), functional.normalize(words, dim=-1)
        constant = torch.ones_like(places[..., :1])
        return torch.cat([places, constant], dim=-1), torch.cat([words, self.offset(said)], dim=-1)

    def _grid(self) -> int:
        with torch.no_grad():
            was = cast(nn.Module, self.image).training
            blank = torch.zeros(1, 3, self.size_px, self.size_px)
            cast(nn.Module, self.image).eval()
            num = self.image(Padded(blank, torch.ones(1, 1, dtype=torch.bool))).values.shape[1]
            cast(nn.Module, self.image).train(was)
        if isqrt(num) ** 2 != num:
            raise ConfigError(
                f"encoder '{self.config.image.encoder}' gives {num} places; expected a square grid"
            )
        return isqrt(num)


def centres(grid: int, size_px: int, device: torch.device | None = None) -> Float[Tensor, "M 2"]:
    """Middle of each place of a square grid over an image, (x, y) in pixels, in reading order.

    Example:
        >>> centres(2, 8).tolist()
        [[2.0, 2.0], [6.0, 2.0], [2.0, 6.0], [6.0, 6.0]]
    """
    at = grid_positions(grid, grid, device)[0].flip(-1)
    return (at + 0.5) * (size_px / grid)


def _encoder(part: PartConfig, modality: str) -> Encoder:
    encoder = ENCODERS.build(part.encoder, **part.options)
    if encoder.modality != modality:
        raise ConfigError(f"'{part.encoder}' encodes {encoder.modality}; expected an encoder of {modality}")
    return encoder
