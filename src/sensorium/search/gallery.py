"""What was found, as a contact sheet (PNG) and as a page (HTML).

In: queries with their hits. Out: files. Rows are read from the table, the query's own media from its
terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sensorium.core.files import write_atomic
from sensorium.data.table.table import Table
from sensorium.display.card import Card, query_card, sample_card
from sensorium.display.contact_sheet import Strip, draw_sheet
from sensorium.display.html_page import draw_page
from sensorium.media.encoding import PICTURE_FORMATS, check_target, write_medium
from sensorium.media.types import Image
from sensorium.search.parse import Term, describe
from sensorium.search.pool import Hit


def write_gallery(
    table: Table,
    searches: Sequence[tuple[Sequence[Term], Sequence[Hit]]],
    *,
    title: str,
    sheet: Path | None = None,
    page: Path | None = None,
) -> None:
    """Draw searches and write them.

    Args:
        table: That was searched.
        searches: Terms and hits of each.
        title: Heading.
        sheet: Where the picture goes; its ending names the format.
        page: Where the HTML page goes.

    Raises:
        UsageError: If the ending of `sheet` is none of a picture.
    """
    if sheet is not None:
        check_target(sheet, PICTURE_FORMATS)
    strips = [_strip(table, terms, hits) for terms, hits in searches]
    footer = f"{table.path.name} · {len(table):,} rows · sensorium"
    if sheet is not None:
        write_medium(Image(np.asarray(draw_sheet(strips, title=title, footer=footer).convert("RGB"))), sheet)
    if page is not None:
        write_atomic(page, draw_page(strips, title=title, footer=footer))


def _strip(table: Table, terms: Sequence[Term], hits: Sequence[Hit]) -> Strip:
    samples = table.rows([hit.row for hit in hits])
    cards = [
        sample_card(sample, score=hit.score, shown=hit.field)
        for sample, hit in zip(samples, hits, strict=True)
    ]
    return Strip(_query_card(table, terms), cards)


def _query_card(table: Table, terms: Sequence[Term]) -> Card:
    """One file or one row is shown as it is, a sum by its words."""
    if len(terms) != 1:
        return query_card(None, describe(terms))
    item = terms[0].item
    if isinstance(item, int):
        card = sample_card(table.rows([item])[0])
        return Card(
            card.caption or terms[0].label, card.kind, card.picture, None, card.detail, card.data, card.words
        )
    return query_card(item, terms[0].label)
