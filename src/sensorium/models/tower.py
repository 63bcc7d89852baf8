"""A tower: one modality's way into the joint space, encoder -> pooling -> head -> unit length.

The encoder may be locked: its parameters take no gradient and it stays in evaluation mode, so what it gives
for a file never changes and can be computed once. `unlock = n` lets its last n blocks train; its
normalisation statistics stay as they were. Does not know other modalities, losses or tables.
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
    """One tower.

    Attributes:
        encoder: Registered name.
        options: The encoder's own arguments.
        pooling: How its tokens become one vector.
        head: Registered name.
        head_options: The head's own arguments.
        frozen: Lock the encoder.
        unlock: Last blocks of a locked encoder that train all the same.
        views: Views of an item whose vectors are averaged by `embed`: itself, then views - 1 fixed crops.
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
            raise ValueError(f"unlock={self.unlock} opens blocks of a locked encoder; set frozen = true")
        return self


class Tower(nn.Module):
    """Encoder, pooling and head of one modality.

    Args:
        config: What to build; a tokenizer that comes with the weights is added to `Tower.config`.
        dim: Width E of the joint space.
        pretrained: False leaves out the weights that a pretrained encoder would fetch.
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
        """True where what comes before the head never changes, so that it can be computed once."""
        before_head = [*self._weights.parameters(), *self.pool.parameters()]
        return self.config.frozen and not any(parameter.requires_grad for parameter in before_head)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def target_px(self) -> int | None:
        """Short side that the encoder's input looks at, or None where it has none."""
        picture = getattr(self.encoder.input, "frame", self.encoder.input)
        return getattr(picture, "size_px", None)

    def forward(self, inputs: Padded) -> Float[Tensor, "B E"]:
        """Return unit vectors of padded inputs."""
        return self.project(self.encode(inputs))

    def encode(self, inputs: Padded) -> Float[Tensor, "B D"]:
        """Return the pooled vectors that go into the head."""
        tokens = self.encoder(inputs)
        pooled: Tensor = self.pool(tokens)
        return pooled

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Return unit vectors of pooled vectors."""
        return F.normalize(self.head(pooled).float(), dim=-1)

    def prepare(self, media: Media | str, view: int = 0) -> np.ndarray:
        """Turn opened media into the encoder's input.

        Args:
            media: Image, Audio, Video or text, as the encoder's input takes it.
            view: 0 is the item itself; view v > 0 is drawn by a stream named v, the same for every item.
        """
        rng = None if view == 0 else np.random.default_rng(view)
        return self.encoder.input(media, rng)

    def train(self, mode: bool = True) -> Tower:
        """Set training mode; a locked encoder stays in evaluation mode."""
        super().train(mode)
        if self.config.frozen:
            self._weights.eval()
        return self

    def encoder_fingerprint(self) -> str:
        """Short hash of all that decides a pooled vector: names, options and weights before the head."""
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
    """Take up a tokenizer that the encoder brought along, so that the configuration is whole by itself."""
    tokenizer = getattr(encoder.input, "tokenizer_json", None)
    if tokenizer is None or config.options.get("tokenizer_json"):
        return config
    return config.model_copy(update={"options": {**config.options, "tokenizer_json": tokenizer}})


def hash_tensors(digest: hashlib._Hash, tensors: dict[str, Tensor]) -> None:
    """Feed names, types, shapes and content of `tensors` to `digest`, by name."""
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
