"""Captions for parts of a video: the `Captioner` interface, and captions retrieved or made from features.

`NearestCaptioner` retrieves the caption of the nearest row of a media table. `measured_caption` needs no
model: it names shots, motion, brightness and sound. `assistants.ask` asks a generative model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from sensorium import media
from sensorium.core.errors import NotFoundError
from sensorium.core.types import Embedder
from sensorium.data.table.table import Table
from sensorium.video.features import VideoFeatures

_LIVELY, _STILL = 9.0, 2.5
_DARK, _BRIGHT = 60.0, 170.0
_SPEECH, _QUIET_DB = 0.5, -45.0


@runtime_checkable
class Captioner(Protocol):
    """Captions images in one line."""

    def caption(self, pictures: Sequence[media.Image]) -> str:
        """Caption the images of one part of a video, in order of time."""


class NearestCaptioner:
    """Retrieves the caption of the table row that is nearest in the embedding space.

    The rows have captions, of which `language` is preferred, and are embedded by `model`.

    Raises:
        NotFoundError: If the table holds no vectors of the model.
    """

    def __init__(self, table: Table, model: Embedder, language: str = "en") -> None:
        fields = table.fields_embedded().get(model.fingerprint)
        if not fields:
            raise NotFoundError(
                f"{table.path} has no vectors of this model; run: sensorium embed {table.path} --model RUN"
            )
        self._table, self._model, self._language = table, model, language
        self._fields = ("text",) if "text" in fields else None

    def caption(self, pictures: Sequence[media.Image]) -> str:
        """Caption images by the row nearest to their mean embedding."""
        mean = self._model.embed(list(pictures)).vectors.mean(axis=0)
        vector = (mean / np.linalg.norm(mean)).astype(np.float32)
        hits = self._table.search(vector, model=self._model, k=1, fields=self._fields)
        texts = hits[0].texts if hits else {}
        return texts.get(self._language) or next(iter(texts.values()), "")


def measured_caption(features: VideoFeatures, start_s: float, end_s: float) -> str:
    """Caption a part of a video from its features.

    Returns:
        Such as `3 shots, lively, dark, speech`.
    """
    part = features.samples(start_s, end_s)
    count = sum(start_s <= shot.start_s < end_s for shot in features.shots) or 1
    motion, light = float(features.motion[part].mean()), float(features.brightness[part].mean())
    words = [f"{count} shot{'s' * (count > 1)}"]
    words += ["lively"] * (motion >= _LIVELY) + ["still"] * (motion < _STILL)
    words += ["dark"] * (light < _DARK) + ["bright"] * (light > _BRIGHT)
    if features.sound is not None:
        level_db, speech = features.sound.between(start_s, end_s)
        words += ["quiet"] if level_db < _QUIET_DB else ["speech"] if speech > _SPEECH else ["sound"]
    return ", ".join(words)
