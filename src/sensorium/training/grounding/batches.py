"""Training batches of a grounder: a table's images, each with some of its texts and their phrases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from sensorium.core.errors import MediaError
from sensorium.data.loading.epochs import Epochs
from sensorium.data.loading.order import Order
from sensorium.data.table.table import Table
from sensorium.grounding.batches import PreparedImage, collate, prepare_row
from sensorium.models.grounder import Grounder, PhraseBatch

_STREAM = 9
"""Separates the choice of texts from other random streams of the same seed."""


def phrase_batches(
    table: Table, order: Order, grounder: Grounder, *, texts_per_image: int, failures: dict[int, str]
) -> Epochs[PhraseBatch]:
    """Batches of images with some of their texts.

    Args:
        table: Its rows have regions, or captions.
        order: Row numbers, batch size, seed.
        grounder: Prepares images and texts.
        texts_per_image: Texts of an image drawn for a batch, each with all its regions; 0: one of its
            captions, as one phrase without boxes.
        failures: Filled with the rows that cannot be used, and the reason.
    """
    captions_only = texts_per_image == 0
    columns = ["image", "texts"] if captions_only else ["image", "regions"]
    order.check(len(table))

    def read(rows: np.ndarray) -> Iterator[PreparedImage]:
        for row, sample in zip(rows.tolist(), table.rows(rows, columns=columns), strict=True):
            try:
                yield prepare_row(sample, row, grounder, captions_only=captions_only)
            except MediaError as error:
                failures[row] = str(error)

    def draw(image: PreparedImage, epoch: int) -> PreparedImage:
        texts = list(dict.fromkeys(region.text for region in image.regions))
        num = max(1, texts_per_image)
        if len(texts) <= num:
            return image
        rng = np.random.default_rng([order.seed, _STREAM, epoch, image.row])
        kept = {texts[index] for index in rng.permutation(len(texts))[:num]}
        return replace(image, regions=[region for region in image.regions if region.text in kept])

    def batches(epoch: int, first: int) -> Iterator[PhraseBatch | None]:
        for rows in order.batches(epoch, first):
            images = [draw(image, epoch) for image in read(rows)]
            yield collate(images, grounder) if images else None

    return Epochs(len(order), order.seed, batches)
