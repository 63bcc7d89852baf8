"""Joint embedding: one vector space for several modalities, in which matching items have high cosine.

Input: a `MediaBatch` (training), or a list of texts, files and opened media (`embed`). Output: unit vectors.
Each modality has one tower; fields of the same modality (sounds and spoken captions) share it. Does not know
losses, optimisers, tables or checkpoints (see `models.checkpoint`).

Reference: Radford et al. (CLIP), arXiv 2103.00020; frozen towers: Zhai et al. (LiT), arXiv 2111.07991.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor, nn

from sensorium import media
from sensorium.core.config import Config, canonical
from sensorium.core.errors import MediaError, UsageError
from sensorium.core.types import MODALITY_OF, Embeddings, MediaBatch, pad
from sensorium.media.path_or_text import refuse_file_name
from sensorium.media.types import Audio, Image, Media, Text, Video
from sensorium.models.heads import MAX_LOGIT_SCALE, LogitScale
from sensorium.models.tower import Modality, Tower, TowerConfig, hash_tensors

Item = str | Path | bytes | Media
_MODALITY_OF_CLASS: Mapping[type, Modality] = {Image: "image", Audio: "audio", Video: "video", Text: "text"}


class JointEmbeddingConfig(Config):
    """Configuration of a joint embedding.

    Attributes:
        dim: Width E of the space.
        towers: By modality.
        logit_scale_init: Initial factor of the cosines.
        logit_bias_init: Initial offset of the logits, for the sigmoid loss only (SigLIP: -10).
    """

    dim: int = Field(default=256, ge=1)
    towers: dict[Modality, TowerConfig] = Field(min_length=1)
    logit_scale_init: float = Field(default=1 / 0.07, gt=0, le=MAX_LOGIT_SCALE)
    logit_bias_init: float = 0.0


class JointEmbedding(nn.Module):
    """One tower per modality, and the logit scale and bias of the contrastive losses.

    Args:
        config: Configuration. Weights that are not pretrained are drawn from torch's global generator.
        pretrained: Whether pretrained encoders load their weights.
    """

    def __init__(self, config: JointEmbeddingConfig, *, pretrained: bool = True) -> None:
        super().__init__()
        towers: dict[str, Tower] = {
            name: Tower(part, config.dim, pretrained=pretrained) for name, part in config.towers.items()
        }
        self.config = config.model_copy(
            update={"towers": {name: tower.config for name, tower in towers.items()}}
        )
        self.towers = nn.ModuleDict(towers)
        self.scale = LogitScale(config.logit_scale_init)
        self.logit_bias = nn.Parameter(torch.tensor(float(config.logit_bias_init)))
        self._fingerprint: tuple[object, str] = (None, "")

    @property
    def text_languages(self) -> tuple[str, ...]:
        """Languages of the text encoder; empty if there is no text tower or they are not known."""
        return getattr(self.towers["text"].encoder, "languages", ()) if "text" in self.towers else ()

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """Learned factor of the cosines, at most 100."""
        factor: Tensor = self.scale()
        return factor

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.logit_bias.device

    @property
    def fingerprint(self) -> str:
        """Short hash of configuration and weights; only vectors with equal fingerprints are comparable."""
        state = self.state_dict()
        key = tuple((tensor.data_ptr(), tensor._version) for tensor in state.values())
        if self._fingerprint[0] != key:
            digest = hashlib.sha256(canonical(self.config).encode())
            hash_tensors(digest, state)
            self._fingerprint = (key, digest.hexdigest()[:16])
        return self._fingerprint[1]

    def tower(self, field: str) -> Tower:
        """Return the tower of a field or modality; raises `UsageError` if the model has none."""
        modality = MODALITY_OF.get(field, field)
        if modality not in self.towers:
            raise UsageError(f"the model has no tower for '{field}'; it embeds {', '.join(self.towers)}")
        tower = self.towers[modality]
        assert isinstance(tower, Tower)
        return tower

    def forward(self, batch: MediaBatch) -> dict[str, Float[Tensor, "_ E"]]:
        """Return for each field of a batch the unit vectors of its rows, in the order of `batch.present`."""
        vectors = {name: self.tower(name)(inputs) for name, inputs in batch.inputs.items()}
        for name, features in batch.features.items():
            vectors[name] = self.tower(name).project(features)
        return vectors

    @torch.no_grad()
    def embed(self, items: Sequence[Item], *, batch_size: int = 32) -> Embeddings:
        """Embed texts (`str`), files (`Path`, `bytes`) and opened media; modalities may be mixed.

        Args:
            items: Items to embed. A `str` is a text; it is refused if it is the name of a file.
            batch_size: Inputs per forward pass.

        Raises:
            UsageError: If the model has no tower for an item, or a `str` names a file.
            MediaError: If a file cannot be read; the message names the item.
        """
        was_training = self.training
        self.eval()
        vectors = np.zeros((len(items), self.config.dim), dtype=np.float32)
        try:
            for start in range(0, len(items), window := 16 * batch_size):
                part = enumerate(items[start : start + window], start)
                opened = [self._open(item, number) for number, item in part]
                self._embed_window(opened, vectors[start : start + window], batch_size)
        finally:
            self.train(was_training)
        return Embeddings(vectors)

    def _embed_window(
        self, opened: list[tuple[Modality, Media | str]], out: Float32[np.ndarray, "n E"], batch_size: int
    ) -> None:
        for modality in {modality: None for modality, _ in opened}:
            tower = self.tower(modality)
            numbers = [number for number, (kind, _) in enumerate(opened) if kind == modality]
            for view in range(tower.config.views):
                inputs = {number: tower.prepare(opened[number][1], view) for number in numbers}
                by_length = sorted(numbers, key=lambda number: len(inputs[number]))
                for start in range(0, len(by_length), batch_size):
                    chunk = by_length[start : start + batch_size]
                    padded = pad([inputs[number] for number in chunk]).to(self.device)
                    out[chunk] += tower(padded).cpu().numpy()
        out /= np.linalg.norm(out, axis=1, keepdims=True)

    def _open(self, item: Item, number: int) -> tuple[Modality, Media | str]:
        if isinstance(item, str):
            refuse_file_name(item)
        if isinstance(item, Path | bytes):
            targets = [tower.target_px for tower in self.towers.values() if isinstance(tower, Tower)]
            target_px = max((px for px in targets if px is not None), default=None)
            try:
                item = media.open(item, target_px=target_px)
            except MediaError as error:
                raise type(error)(f"item {number}: {error}") from error
        modality = "text" if isinstance(item, str) else _MODALITY_OF_CLASS.get(type(item))
        if modality is None:
            raise UsageError(
                f"item {number} is a {type(item).__name__}; expected a str, Path, bytes or opened media"
            )
        if modality not in self.towers:
            raise UsageError(f"item {number} is {modality}; the model embeds {', '.join(self.towers)}")
        return modality, item
