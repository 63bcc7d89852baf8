"""Cache of frozen encoder outputs and codec ids, one entry per row, in the table's feature store.

In: a field of a table, and a frozen encoder or a codec. Out: a sequence for each row: (N, D) encoder tokens,
or (N, 1) codec ids, which float32 holds exactly below 2^24. The first clip stands for a row's speech.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from sensorium.codecs import Codec
from sensorium.core.errors import MediaError
from sensorium.core.runtime import Progress, quiet
from sensorium.core.types import MODALITY_OF, pad
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.data.table.vectors import Ragged
from sensorium.encoders import Encoder
from sensorium.media import Audio, Image, Video
from sensorium.media.types import Media
from sensorium.models.feature_cache import fill_features, open_items
from sensorium.models.tower import hash_tensors

_AT_ONCE = 32
_KINDS = {"image": (Image, Video), "audio": (Audio, Video), "video": (Video, Image)}


def cached_tokens(
    table: Table,
    field: str,
    encoder: Encoder,
    name: str,
    languages: Sequence[str] = (),
    progress: Progress = quiet,
) -> tuple[Ragged, list[tuple[int, str]]]:
    """Outputs of a frozen encoder for a field of each row, (N, D) each.

    Args:
        table: Read and written.
        field: Column of the table.
        encoder: In evaluation mode.
        name: Name of the encoder.
        languages: Languages of speech; empty: all.
        progress: Told after each group of rows.

    Returns:
        The outputs, and the rows that cannot be read with the reason.
    """
    size = getattr(getattr(encoder.input, "frame", encoder.input), "size_px", None)

    def run(items: list[list[np.ndarray]], _: int) -> list[Float32[np.ndarray, "_ D"]]:
        return [_encoded(encoder, own[0]) if own else np.zeros((0, encoder.dim), np.float32) for own in items]

    return _filled(
        table,
        f"tokens:{field}:{name}:{fingerprint(cast(nn.Module, encoder), repr(encoder.input))}",
        field,
        lambda medium: encoder.input(medium),
        run,
        languages,
        progress,
        size,
    )


def cached_codes(
    table: Table,
    field: str,
    codec: Codec[Any],
    languages: Sequence[str] = (),
    progress: Progress = quiet,
) -> tuple[Ragged, list[tuple[int, str]]]:
    """Codec ids of a field of each row, (N, 1) each; see `cached_tokens`."""

    def run(items: list[list[np.ndarray]], _: int) -> list[Float32[np.ndarray, "_ 1"]]:
        return [own[0] if own else np.zeros((0, 1), np.float32) for own in items]

    return _filled(
        table,
        f"codes:{field}:{fingerprint(cast(nn.Module, codec))}",
        field,
        lambda medium: np.asarray(codec.encode(medium), np.float32)[:, None],
        run,
        languages,
        progress,
    )


def fingerprint(part: nn.Module, more: str = "") -> str:
    """Short hash of a module's weights and of `more`, the other settings that decide its output."""
    digest = hashlib.sha256(more.encode())
    hash_tensors(digest, part.state_dict())
    return digest.hexdigest()[:12]


def _filled(
    table: Table,
    name: str,
    field: str,
    prepare: Callable[[Media], np.ndarray],
    run: Callable[[list[list[np.ndarray]], int], list[np.ndarray]],
    languages: Sequence[str],
    progress: Progress,
    target_px: int | None = None,
) -> tuple[Ragged, list[tuple[int, str]]]:
    whole = f"{name}:{'-'.join(languages) or 'all'}" if field == "speech" else name

    def inputs(sample: Sample) -> list[np.ndarray]:
        first = next(open_items(sample, field, languages, target_px), None)
        if first is None:
            return []
        if not isinstance(first, _KINDS[MODALITY_OF[field]]):
            raise MediaError(f"{field}: holds {type(first).__name__.lower()}")
        return [prepare(first)]

    _, failures = fill_features(table, whole, field, inputs, run, rows_at_once=_AT_ONCE, progress=progress)
    return table.features(whole), failures


@torch.no_grad()
def _encoded(encoder: Encoder, item: np.ndarray) -> Float32[np.ndarray, "_ D"]:
    """Outputs of one input, without padding."""
    found = encoder(pad([item]))
    tokens: np.ndarray = found.values[0][found.mask[0]].float().numpy()
    return tokens
