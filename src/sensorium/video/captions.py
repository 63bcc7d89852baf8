"""Words for a part of a film: written by a model, borrowed from a media table, or from what was measured.

In: pictures of a part. Out: one line of text. `Captioner` is the interface: whatever looks at pictures and
writes a line. A model writes what it sees; the nearest caption of a table is borrowed where there is no such
model or it has no words; where there is neither, `measured` says what is known: shots, movement, light,
sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from sensorium import media
from sensorium.core.errors import NotFoundError
from sensorium.core.types import Embedder
from sensorium.data.table.table import Table
from sensorium.video.features import Film

_LIVELY, _STILL = 9.0, 2.5
_DARK, _BRIGHT = 60.0, 170.0
_SPEECH, _QUIET_DB = 0.5, -45.0


@runtime_checkable
class Captioner(Protocol):
    """Anything that says in a line what pictures show."""

    def caption(self, pictures: Sequence[media.Image]) -> str:
        """Describe pictures of one part of a film, in the order of time."""


class NearestCaptioner:
    """Borrows the caption of a table's row that is nearest to the pictures in the joint space.

    Args:
        table: Rows with captions, embedded by `model`.
        model: Puts pictures into the joint space.
        language: Of the caption, where a row has several.

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
        """Describe pictures by the caption nearest to their mean."""
        mean = self._model.embed(list(pictures)).vectors.mean(axis=0)
        vector = (mean / np.linalg.norm(mean)).astype(np.float32)
        hits = self._table.search(vector, model=self._model, k=1, fields=self._fields)
        texts = hits[0].texts if hits else {}
        return texts.get(self._language) or next(iter(texts.values()), "")


def measured(film: Film, start_s: float, end_s: float) -> str:
    """What the numbers say of a part of a film.

    Returns:
        Such as `3 shots, lively, dark, speech`.
    """
    part = film.samples(start_s, end_s)
    count = sum(start_s <= shot.start_s < end_s for shot in film.shots) or 1
    motion, light = float(film.motion[part].mean()), float(film.brightness[part].mean())
    words = [f"{count} shot{'s' * (count > 1)}"]
    words += ["lively"] * (motion >= _LIVELY) + ["still"] * (motion < _STILL)
    words += ["dark"] * (light < _DARK) + ["bright"] * (light > _BRIGHT)
    if film.sound is not None:
        level_db, speech = film.sound.between(start_s, end_s)
        words += ["quiet"] if level_db < _QUIET_DB else ["speech"] if speech > _SPEECH else ["sound"]
    return ", ".join(words)
