"""Tower: the path of one modality into the joint space: encoder, pooling, head, normalisation.

Input: padded inputs. Output: unit vectors (B, E). A frozen encoder takes no gradients and stays in evaluation
mode, so its outputs can be cached. `unlock = n` trains its last n blocks; statistics of its norms stay
fixed. Does not know other modalities, losses or tables.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, JsonValue, model_validator
from torch import Tensor, nn

from sensorium.core.config import Config
from sensorium.core.errors import ConfigError
from sensorium.core.types import Padded
from sensorium.encoders import ENCODERS, Encoder
from sensorium.media.types import Media
from sensorium.models.heads import HEADS
from sensorium.nn.pooling import POOLINGS

Modality = Literal["image", "text", "audio", "video"]


class TowerConfig(Config):
    """Configuration of a tower.

    Attributes:
        encoder: Registered name of the encoder.
        options: Arguments of the encoder.
        pooling: Registered name of the pooling.
        head: Registered name of the head.
        head_options: Arguments of the head.
        frozen: Whether the encoder is frozen.
        unlock: Number of last blocks of a frozen encoder that train.
        views: Number of views that `embed` averages: the item, then views - 1 fixed crops.
    """

    encoder: str
    options: dict[str, JsonValue] = Field(default_factory=dict)
    pooling: str = "mean"
    head: str = "linear"
    head_options: dict[str, JsonValue] = Field(default_factory=dict)
    frozen: bool = False
    unlock: int = Field(default=0, ge=0)
    views: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _unlock_needs_frozen(self) -> TowerConfig:
        if self.unlock and not self.frozen:
            raise ValueError(f"unlock={self.unlock} trains blocks of a frozen encoder; set frozen = true")
        return self


class Tower(nn.Module):
    """Encoder, pooling and head of one modality.

    Args:
        config: Configuration; `Tower.config` also holds the tokenizer of a pretrained encoder.
        dim: Width E of the joint space.
        pretrained: Whether a pretrained encoder loads its weights.
    """

    def __init__(self, config: TowerConfig, dim: int, *, pretrained: bool = True) -> None:
        super().__init__()
        self.encoder: Encoder = _build_encoder(config, pretrained)
        self.config = _completed(config, self.encoder)
        self.pool = POOLINGS.build(config.pooling, dim=self.encoder.dim)
        self.head = HEADS.build(config.head, in_dim=self.encoder.dim, out_dim=dim, **config.head_options)
        if config.frozen:
            self._lock(config.unlock)

    @property
    def is_cacheable(self) -> bool:
        """Whether nothing before the head trains, so that pooled vectors can be cached."""
        before_head = [*self._weights.parameters(), *self.pool.parameters()]
        return self.config.frozen and not any(parameter.requires_grad for parameter in before_head)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def target_px(self) -> int | None:
        """Side of the encoder's input image in pixels; None if it takes no images."""
        picture = getattr(self.encoder.input, "frame", self.encoder.input)
        return getattr(picture, "size_px", None)

    def forward(self, inputs: Padded) -> Float[Tensor, "B E"]:
        """Return unit vectors of padded inputs."""
        return self.project(self.encode(inputs))

    def encode(self, inputs: Padded) -> Float[Tensor, "B D"]:
        """Return pooled vectors, the input of the head."""
        tokens = self.encoder(inputs)
        pooled: Tensor = self.pool(tokens)
        return pooled

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Return unit vectors of pooled vectors."""
        return F.normalize(self.head(pooled).float(), dim=-1)

    def prepare(self, media: Media | str, view: int = 0) -> np.ndarray:
        """Turn opened media into the encoder's input; view v > 0 is a random crop with seed v."""
        rng = None if view == 0 else np.random.default_rng(view)
        return self.encoder.input(media, rng)

    def train(self, mode: bool = True) -> Tower:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.config.frozen:
            self._weights.eval()
        return self

    def encoder_fingerprint(self) -> str:
        """Short hash of all that determines a pooled vector: names, options and weights before the head."""
        digest = hashlib.sha256()
        names = [self.config.encoder, self.config.options, self.config.pooling, repr(self.encoder.input)]
        digest.update(json.dumps(names, sort_keys=True, default=str).encode())
        hash_tensors(digest, {**self._weights.state_dict(), **self.pool.state_dict(prefix="pool.")})
        return digest.hexdigest()[:12]

    @property
    def _weights(self) -> nn.Module:
        return cast(nn.Module, self.encoder)

    def _lock(self, unlock: int) -> None:
        self._weights.requires_grad_(False).eval()
        if unlock == 0:
            return
        blocks = getattr(getattr(self.encoder, "stack", self.encoder), "blocks", None)
        if not isinstance(blocks, nn.ModuleList | nn.Sequential) or len(blocks) < unlock:
            has = "no blocks" if blocks is None else f"{len(blocks)} blocks"
            raise ConfigError(f"encoder '{self.config.encoder}' has {has}; unlock={unlock} is too many")
        for block in list(blocks)[-unlock:]:
            block.requires_grad_(True)


def _build_encoder(config: TowerConfig, pretrained: bool) -> Encoder:
    options = dict(config.options)
    if not pretrained and "pretrained" in inspect.signature(ENCODERS.get(config.encoder)).parameters:
        options["pretrained"] = False
    return ENCODERS.build(config.encoder, **options)


def _completed(config: TowerConfig, encoder: Encoder) -> TowerConfig:
    """Add the tokenizer of a pretrained encoder, so that the configuration alone builds the tower."""
    tokenizer = getattr(encoder.input, "tokenizer_json", None)
    if tokenizer is None or config.options.get("tokenizer_json"):
        return config
    return config.model_copy(update={"options": {**config.options, "tokenizer_json": tokenizer}})


def hash_tensors(digest: hashlib._Hash, tensors: dict[str, Tensor]) -> None:
    """Update `digest` with names, types, shapes and values of `tensors`, sorted by name."""
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
