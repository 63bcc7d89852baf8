"""Vectors of the held-out rows: what an evaluation is given in the middle of training.

In: a model and a run's material. Out: for each field, the rows that have it and one unit vector for each, of
the plain view or of the mean of the tower's views, of the first text and the first clip. Fields of locked
towers need their heads alone; the others are decoded anew. Does not know any measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sensorium.core.errors import MediaError
from sensorium.data.table.vectors import Ragged
from sensorium.models.feature_cache import COLUMN_OF, batched, open_items
from sensorium.models.joint_embedding import Item, JointEmbedding
from sensorium.training.embedding.data import Material

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class FieldVectors:
    """One field of the held-out rows.

    Attributes:
        rows: Row numbers, ascending.
        vectors: Unit vectors of these rows.
    """

    rows: Int64[np.ndarray, " n"]
    vectors: Float32[np.ndarray, "n E"]


@torch.no_grad()
def heldout_vectors(model: JointEmbedding, material: Material) -> Mapping[str, FieldVectors]:
    """Embed every field of the held-out rows, as `JointEmbedding.embed` would."""
    found: dict[str, FieldVectors] = {}
    for name in material.corpus.fields:
        if name in material.cached:
            found[name] = _from_features(model, name, material.cached[name], material.corpus.test)
        else:
            found[name] = _from_media(model, name, material)
    return found


def _from_features(
    model: JointEmbedding, name: str, features: Ragged, test: Int64[np.ndarray, " m"]
) -> FieldVectors:
    tower = model.tower(name)
    rows = test[features.counts[test] > 0]
    total = np.zeros((len(rows), model.config.dim), dtype=np.float32)
    for view in range(tower.config.views if name in ("image", "video") else 1):
        chosen = features.offsets[rows] + np.minimum(view, features.counts[rows] - 1)
        total += tower.project(torch.from_numpy(features.values[chosen]).to(model.device)).cpu().numpy()
    return FieldVectors(rows, total / np.linalg.norm(total, axis=1, keepdims=True))


def _from_media(model: JointEmbedding, name: str, material: Material) -> FieldVectors:
    corpus, tower = material.corpus, model.tower(name)
    kept: list[int] = []
    parts = [np.zeros((0, model.config.dim), dtype=np.float32)]
    for rows in batched(corpus.test, ROWS_AT_ONCE):
        opened: list[Item] = []
        samples = corpus.tables[0].rows(rows, columns=[COLUMN_OF[name]])
        for row, sample in zip(rows.tolist(), samples, strict=True):
            try:
                first = next(open_items(sample, name, corpus.languages, tower.target_px), None)
            except MediaError:
                continue
            if first is not None:
                opened.append(first)
                kept.append(row)
        parts.append(model.embed(opened).vectors)
    return FieldVectors(np.array(kept, dtype=np.int64), np.concatenate(parts))
