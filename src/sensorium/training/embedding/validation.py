"""Vectors of the held-out rows, for evaluation during training.

In: a model and a run's data. Out: for each field, the rows that have it and one unit vector each: of the
plain view or the mean of the tower's views, of the first text, of the first clip. Fields of locked towers are
read from the feature cache and only pass the heads; the others are decoded anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int64

from sensorium.core.errors import MediaError
from sensorium.data.table.vectors import Ragged
from sensorium.models.feature_cache import COLUMN_OF, batched, open_items
from sensorium.models.joint_embedding import Item, JointEmbedding
from sensorium.training.embedding.data import TrainingData
from sensorium.training.evaluate import OnePerRow

ROWS_AT_ONCE = 256


@torch.no_grad()
def validation_vectors(model: JointEmbedding, data: TrainingData) -> Mapping[str, OnePerRow]:
    """Embed every field of the held-out rows, as `JointEmbedding.embed` would."""
    found: dict[str, OnePerRow] = {}
    for name in data.corpus.fields:
        if name in data.cached:
            found[name] = _from_features(model, name, data.cached[name], data.corpus.test)
        else:
            found[name] = _from_media(model, name, data)
    return found


def _from_features(
    model: JointEmbedding, name: str, features: Ragged, test: Int64[np.ndarray, " m"]
) -> OnePerRow:
    tower = model.tower(name)
    rows = test[features.counts[test] > 0]
    total = np.zeros((len(rows), model.config.dim), dtype=np.float32)
    for view in range(tower.config.views if name in ("image", "video") else 1):
        chosen = features.offsets[rows] + np.minimum(view, features.counts[rows] - 1)
        total += tower.project(torch.from_numpy(features.values[chosen]).to(model.device)).cpu().numpy()
    return OnePerRow(rows, total / np.linalg.norm(total, axis=1, keepdims=True))


def _from_media(model: JointEmbedding, name: str, data: TrainingData) -> OnePerRow:
    corpus, tower = data.corpus, model.tower(name)
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
    return OnePerRow(np.array(kept, dtype=np.int64), np.concatenate(parts))
