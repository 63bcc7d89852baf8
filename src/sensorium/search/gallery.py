"""Draws search results as a contact sheet (PNG) and as a page (HTML).

Input: queries with their hits. Output: files. Media of hits are read from the table, those of a query from
its terms.
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
from sensorium.search.query import Hit, Term, describe


def write_gallery(
    table: Table,
    searches: Sequence[tuple[Sequence[Term], Sequence[Hit]]],
    *,
    title: str,
    sheet: Path | None = None,
    page: Path | None = None,
) -> None:
    """Write a contact sheet, an HTML page, or both.

    Args:
        table: The table that was searched.
        searches: Terms and hits of each query.
        title: Heading.
        sheet: Path of the contact sheet; its suffix selects the image format.
        page: Path of the HTML page.

    Raises:
        UsageError: If the suffix of `sheet` is not that of an image format.
    """
    if sheet is not None:
        check_target(sheet, PICTURE_FORMATS)
    strips = []
    for terms, hits in searches:
        samples = table.rows([hit.row for hit in hits])
        pairs = zip(samples, hits, strict=True)
        cards = [sample_card(sample, score=hit.score, shown=hit.field) for sample, hit in pairs]
        strips.append(Strip(_query_card(table, terms), cards))
    footer = f"{table.path.name} · {len(table):,} rows · sensorium"
    if sheet is not None:
        write_medium(Image(np.asarray(draw_sheet(strips, title=title, footer=footer).convert("RGB"))), sheet)
    if page is not None:
        write_atomic(page, draw_page(strips, title=title, footer=footer))


def _query_card(table: Table, terms: Sequence[Term]) -> Card:
    """A single file or row as it is, a sum of terms as text."""
    if len(terms) != 1:
        return query_card(None, describe(terms))
    item = terms[0].item
    if isinstance(item, int):
        card = sample_card(table.rows([item])[0])
        return Card(
            card.caption or terms[0].label, card.kind, card.picture, None, card.detail, card.data, card.words
        )
    return query_card(item, terms[0].label)
