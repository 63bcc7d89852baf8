"""Image codec: a convolutional autoencoder with finite scalar quantisation (FSQ).

Input: an `Image` of any size, padded to a square. Output: one id for each patch of 8 x 8 pixels (64 px: 64
ids, 128 px: 256) in reading order, and back. A VQ-VAE (arXiv:1711.00937) with FSQ (arXiv:2309.15505) instead
of a learned codebook; the decoder upsamples by pixel shuffle (arXiv:1609.05158). A batch norm before the
quantiser keeps all levels in use: without it, some dimensions never leave their middle level.
"""

from __future__ import annotations

from math import isqrt
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from sensorium.codecs.contract import CODECS, Ids, Reconstructed, Signals, check_ids
from sensorium.core.config import Config, parse
from sensorium.core.errors import UsageError
from sensorium.data.transforms import ImageInput
from sensorium.media import Image
from sensorium.media.types import Media
from sensorium.nn.conv import ResidualConv
from sensorium.nn.quantise import Fsq, Quantised


class ImageFsqConfig(Config):
    """Options of the image codec.

    Attributes:
        size_px: Side of the square; a multiple of a patch.
        stem_px: Patch side of the first and the last convolution.
        widths: Channels of each stage; each further stage halves the resolution (two stages of 4 px: 8 px).
        encoder_depths: Residual blocks of each stage in the encoder.
        decoder_depths: Residual blocks of each stage in the decoder.
        levels: Of the quantiser; their product is the number of ids.
    """

    size_px: int = Field(default=64, ge=2)
    stem_px: Literal[2, 4] = 4
    widths: tuple[int, ...] = (64, 112)
    encoder_depths: tuple[int, ...] = (1, 2)
    decoder_depths: tuple[int, ...] = (2, 2)
    levels: tuple[int, ...] = (3,) * 8

    @model_validator(mode="after")
    def _fits(self) -> ImageFsqConfig:
        if not len(self.widths) == len(self.encoder_depths) == len(self.decoder_depths) > 0:
            raise ValueError("widths, encoder_depths and decoder_depths must be of one length, at least 1")
        if self.size_px % self.patch_px:
            raise ValueError(f"size_px={self.size_px} is not a multiple of the patch, {self.patch_px} px")
        return self

    @property
    def patch_px(self) -> int:
        """Side of the patch of one id."""
        return int(self.stem_px * 2 ** (len(self.widths) - 1))


class ImageFsq(nn.Module):
    """The image codec. `CODECS.build("image-fsq")` builds an untrained one, `sensorium.load` a trained one.

    Args:
        config: Options.
        pretrained: Not used: there are no public weights.

    Attributes:
        grid: Rows and columns of ids.
        rate: Ids of an image.
        input: Scales images into the square with white padding, pixels -1 to 1.

    Example:
        >>> codec = ImageFsq(ImageFsqConfig(size_px=16, widths=(4, 8)))
        >>> ids = codec.encode(Image(np.zeros((30, 20, 3), np.uint8)))
        >>> ids.shape, codec.decode(ids)
        ((4,), Image(16x16))
    """

    modality = "image"

    def __init__(self, config: ImageFsqConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        side = config.size_px // config.patch_px
        self.grid = (side, side)
        self.rate = float(side * side)
        self.input = ImageInput(size_px=config.size_px, mode="pad")
        self.quantiser = Fsq(config.levels)
        self.down = nn.ModuleList(_encoder_layers(config))
        self.inward = nn.Conv2d(config.widths[-1], len(config.levels), 1)
        self.spread = nn.BatchNorm2d(len(config.levels), affine=False)
        self.outward = nn.Conv2d(len(config.levels), config.widths[-1], 1)
        self.up = nn.ModuleList(_decoder_layers(config))
        self.last = nn.Conv2d(config.widths[0], 3 * config.stem_px**2, 3, padding=1)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.quantiser.size

    def forward(self, batch: Signals) -> Reconstructed:
        """Encode and decode normalised pixels; sides are multiples of a patch."""
        found = self._quantise(batch.inputs)
        return Reconstructed(self._reconstruct(found.codes), found.ids)

    def encode_pixels(self, pixels: Float[Tensor, "B 3 H W"]) -> Int64[Tensor, "B h w"]:
        """Encode normalised pixels to grids of ids."""
        return self._quantise(pixels).ids

    def decode_ids(self, ids: Int64[Tensor, "B h w"]) -> Float[Tensor, "B 3 H W"]:
        """Decode grids of ids to normalised pixels; differentiable in the weights only."""
        return self._reconstruct(self.quantiser.to_codes(ids))

    def _quantise(self, pixels: Float[Tensor, "B 3 H W"]) -> Quantised:
        x = pixels.contiguous(memory_format=torch.channels_last)
        for layer in self.down:
            x = layer(x)
        spread = self.spread(self.inward(x).float())
        return self.quantiser(rearrange(spread, "b d h w -> b h w d"))  # type: ignore[no-any-return]

    def _reconstruct(self, codes: Float[Tensor, "B h w d"]) -> Float[Tensor, "B 3 H W"]:
        x = self.outward(rearrange(codes, "b h w d -> b d h w").contiguous(memory_format=torch.channels_last))
        for layer in self.up:
            x = layer(x)
        return functional.pixel_shuffle(self.last(x), self.config.stem_px).float()

    @torch.inference_mode()
    def encode(self, media: Media | str, /) -> Int64[np.ndarray, " N"]:
        """Encode an image; ids in reading order.

        Raises:
            UsageError: If `media` has no image.
        """
        pixels = torch.from_numpy(self.input(media))[None].to(self.last.weight.device)
        ids: np.ndarray = self.encode_pixels(pixels).flatten().cpu().numpy()
        return ids

    @torch.inference_mode()
    def decode(self, ids: Ids, /) -> Image:
        """Decode ids to an image.

        Raises:
            UsageError: If their number is not that of the grid, or one is not in the vocabulary.
        """
        array = check_ids(ids, self.vocab_size)
        if len(array) != self.rate:
            raise UsageError(
                f"{len(array)} ids for an image; expected {self.rate:.0f}, "
                f"{self.grid[0]} rows of {self.grid[1]}"
            )
        side = isqrt(len(array))
        grid = torch.from_numpy(array.reshape(1, side, side)).to(self.last.weight.device)
        return Image(to_bytes(self.decode_ids(grid))[0])


def to_bytes(pixels: Float[Tensor, "B 3 H W"]) -> np.ndarray:
    """Convert pixels of -1 to 1 to bytes (B, H, W, 3)."""
    scaled = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return rearrange(scaled, "b c h w -> b h w c").cpu().numpy()


def _encoder_layers(config: ImageFsqConfig) -> list[nn.Module]:
    side, channels = config.stem_px, config.widths[0]
    layers: list[nn.Module] = [nn.Conv2d(3, channels, side + 2, side, padding=1), nn.ReLU()]
    for number, (width, depth) in enumerate(zip(config.widths, config.encoder_depths, strict=True)):
        if number > 0:
            layers.append(ResidualConv(channels, width, 2, "layer"))
        layers += [ResidualConv(width, width, 1, "layer") for _ in range(depth)]
        channels = width
    return layers


def _decoder_layers(config: ImageFsqConfig) -> list[nn.Module]:
    layers: list[nn.Module] = []
    stages = list(zip(config.widths, config.decoder_depths, strict=True))[::-1]
    for number, (width, depth) in enumerate(stages):
        layers += [ResidualConv(width, width, 1, "layer") for _ in range(depth)]
        if number + 1 < len(stages):
            layers += [nn.Conv2d(width, 4 * stages[number + 1][0], 1), nn.PixelShuffle(2)]
    return layers


@CODECS.register("image-fsq")
def image_fsq(**options: object) -> ImageFsq:
    """Build an untrained image codec from the options of `ImageFsqConfig`.

    Raises:
        ConfigError: If an option is invalid.
    """
    return ImageFsq(parse(ImageFsqConfig, options, "codec 'image-fsq'"))
