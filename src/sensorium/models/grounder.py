"""Phrase grounding: an image and a text in; for each phrase of the text a heat map and boxes out.

An image encoder gives patch tokens, a text encoder word tokens. A phrase vector is the mean of its
words; its score at a patch is their scaled dot product. There are two ways to train:

    with boxes      blocks of self-attention over patches and words resolve relations such as "left of"; each
                    place predicts the distances to the four sides of its box (FCOS, arXiv 1904.01355), each
                    phrase a logit for "absent"; optionally, patches learn words before these blocks
    without boxes   a contrastive loss on words or captions; boxes are found from the scores
                    (`grounding.predict`)

Does not know losses, tables or files.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
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
from sensorium.models.heads import LogitScale
from sensorium.nn.block import BlockConfig, Stack
from sensorium.nn.matching import heat_maps, patch_log_probs, phrase_vectors
from sensorium.nn.position import LearnedPositions, grid_positions

_INITIAL_SIDE = 0.12
"""Initial distance from a patch to the sides of its box, as a share of the image side."""
_INITIAL_LOGIT = -2.0
"""Initial logit of a word at a patch, when trained on words: about one image in eight contains the word."""


class PartConfig(Config):
    """Registered name of an encoder, and its arguments."""

    encoder: str
    options: dict[str, JsonValue] = Field(default_factory=dict)


class GrounderConfig(Config):
    """Configuration of a grounder.

    Attributes:
        image: Image encoder whose tokens form a square grid.
        text: Text encoder.
        dim: Common width D of patches and words.
        depth: Number of blocks over patches and words, trained with boxes; 0: none, trained without boxes,
            and relations are not resolved.
        contrast: For depth 0: `words` (`losses.multiple_instance`; a product is the logit of a word at a
            patch) or `captions` (`losses.late_interaction`; a product is a cosine).
        names: For depth > 0: whether patches also learn words before the blocks (`losses.multiple_instance`,
            with each object as an image). Kinds of objects are then learned much earlier.
        num_heads: Attention heads of the blocks.
        dropout: Dropout rate of the blocks.
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
    """B images, T texts about them and P phrases of the texts.

    Attributes:
        rows: Row numbers of the images, (B,).
        images: Normalised pixels.
        texts: Ids of the texts.
        image_of_text: Index of the image of each text.
        text_of_phrase: Index of the text of each phrase.
        spans: True = the token belongs to the phrase.
        boxes: Up to K boxes of each phrase, (x0, y0, x1, y1) in pixels of `images`.
        num_boxes: Number of real boxes; 0: the phrase names nothing in the image.
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
        return replace(
            self,
            **{one.name: getattr(self, one.name).to(device) for one in fields(self) if one.name != "rows"},
        )


@dataclass(frozen=True)
class GrounderOutput:
    """Output of a grounder, for P phrases and M patches.

    Attributes:
        scores: Score of each phrase at each patch: logits (trained with boxes), log-probabilities
            (`nn.matching.patch_log_probs`, trained on words) or cosines (trained on captions).
        absent: Logit of "not in the image"; None if trained without boxes.
        boxes: Box predicted at each patch, in pixels of the input; None if trained without boxes.
        patches: Image tokens as contrastive losses compare them with words.
        words: Text tokens, likewise.
    """

    scores: Float[Tensor, "P M"]
    absent: Float[Tensor, " P"] | None
    boxes: Float[Tensor, "P M 4"] | None
    patches: Tokens
    words: Tokens


class CrossModalBlocks(nn.Module):
    """Self-attention over patches and words, then phrase scores and boxes.

    Args:
        config: Configuration of the grounder.
        grid: Number of rows and of columns of the patches.
        size_px: Side of the input image.
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
        nn.init.constant_(self.sides.bias, log(_INITIAL_SIDE))

    def forward(
        self, patches: Float[Tensor, "B M D"], words: Tokens, batch: PhraseBatch
    ) -> tuple[Float[Tensor, "P M"], Float[Tensor, " P"], Float[Tensor, "P M 4"]]:
        """Return scores of each phrase at each patch, logits of absence, and the box of each patch."""
        own, words_after = self._attend(patches[batch.image_of_text], words)
        of_phrase = batch.text_of_phrase
        phrases = phrase_vectors(words_after[of_phrase], batch.spans)
        scores = torch.einsum("pmd,pd->pm", own[of_phrase], self.query(phrases)) * own.shape[-1] ** -0.5
        boxes = self._boxes(self.sides(own).float())
        return scores.float(), self.absent(phrases)[:, 0].float(), boxes[of_phrase]

    def _attend(
        self, patches: Float[Tensor, "T M D"], words: Tokens
    ) -> tuple[Float[Tensor, "T M D"], Float[Tensor, "T N D"]]:
        """Run the blocks; words have the position of the grid's centre.

        Coordinates in -1..1 are added to patches linearly, so that "left of" is a difference of them.
        """
        at = 2 * centres(self.grid, self.size_px, patches.device) / self.size_px - 1
        both = torch.cat([self.positions(patches) + self.coordinates(at), words.values], dim=1)
        real = torch.cat([words.mask.new_ones(patches.shape[:2]), words.mask], dim=1)
        steps = grid_positions(self.grid, self.grid, patches.device)
        middle = steps.new_full((1, words.values.shape[1], 2), self.grid // 2)
        both = self.stack(both, real, positions=torch.cat([steps, middle], dim=1))
        return both[:, : patches.shape[1]], both[:, patches.shape[1] :]

    def _boxes(self, sides: Float[Tensor, "T M 4"]) -> Float[Tensor, "T M 4"]:
        """Convert log distances to the left, top, right and bottom side into boxes."""
        distance = sides.clamp(-6, 1).exp() * self.size_px
        middle = centres(self.grid, self.size_px, sides.device)
        return torch.cat([middle - distance[..., :2], middle + distance[..., 2:]], dim=-1)


class Grounder(nn.Module):
    """Image encoder, text encoder, and the blocks over both.

    Args:
        config: Configuration. Weights are drawn from torch's global generator.
        pretrained: Not used: there are no pretrained parts.

    Attributes:
        grid: Number of rows and of columns of the patches.
        shift_px: Offset of the patches to the right of and below the cell centres of an even grid. Learned
            boxes compensate for it.
        meeting: The blocks; None at depth 0. The name is that of its parameters in checkpoints.

    Raises:
        ConfigError: If an encoder is for another modality, or its patches do not form a square grid.
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
        self.meeting = CrossModalBlocks(config, self.grid, self.size_px) if config.depth else None
        by = "words" if config.names else config.contrast if config.depth == 0 else ""
        self.scale = LogitScale(1 / 0.07) if by == "captions" else None
        self.offset = nn.Linear(self.text.dim, 1) if by == "words" else None
        if self.offset is not None:
            nn.init.normal_(self.word.weight, std=1 / config.dim)
            nn.init.zeros_(self.offset.weight)
            nn.init.constant_(self.offset.bias, _INITIAL_LOGIT)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.word.weight.device

    def forward(self, batch: PhraseBatch) -> GrounderOutput:
        """Score each phrase of a batch at each patch of its image."""
        image, text = self.image(batch.images), self.text(batch.texts)
        patches, words, mask = self.place(image.values), self.word(text.values), batch.texts.mask
        real = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
        compared = self._compared(patches, words, text.values)
        contrastive = Tokens(compared[0], real), Tokens(compared[1], mask)
        if self.meeting is not None:
            scores, absent, boxes = self.meeting(patches, Tokens(words, mask), batch)
            return GrounderOutput(scores, absent, boxes, *contrastive)
        both = compared[0][batch.image_of_text[batch.text_of_phrase]], compared[1][batch.text_of_phrase]
        scores = heat_maps(*both, batch.spans) if self.offset is None else patch_log_probs(*both, batch.spans)
        return GrounderOutput(scores.float(), None, None, *contrastive)

    def _compared(
        self, patches: Float[Tensor, "B M D"], words: Float[Tensor, "T N D"], text: Float[Tensor, "T N _"]
    ) -> tuple[Float[Tensor, "B M _"], Float[Tensor, "T N _"]]:
        """Vectors for contrastive losses: with an offset per word (trained on words), or unit vectors."""
        if self.offset is None:
            return functional.normalize(patches, dim=-1), functional.normalize(words, dim=-1)
        constant = torch.ones_like(patches[..., :1])
        return torch.cat([patches, constant], dim=-1), torch.cat([words, self.offset(text)], dim=-1)

    def _grid(self) -> int:
        with torch.no_grad():
            was = cast(nn.Module, self.image).training
            blank = torch.zeros(1, 3, self.size_px, self.size_px)
            cast(nn.Module, self.image).eval()
            num = self.image(Padded(blank, torch.ones(1, 1, dtype=torch.bool))).values.shape[1]
            cast(nn.Module, self.image).train(was)
        if isqrt(num) ** 2 != num:
            raise ConfigError(f"encoder '{self.config.image.encoder}' gives {num} patches; expected a square")
        return isqrt(num)


def centres(grid: int, size_px: int, device: torch.device | None = None) -> Float[Tensor, "M 2"]:
    """Centre (x, y) in pixels of each cell of a square grid over an image, in row-major order.

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
