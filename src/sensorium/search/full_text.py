"""Captions by their words: rows that a query quotes.

In: a table and a text. Out: the rows of which a caption is that text, and those of which a caption holds it,
word for word; case and punctuation do not count. Part of a caption is a quote from three words on: fewer are
in too many captions to say which row is meant, and are left to the vectors. Captions are read once and kept,
in about the memory of their letters twice, and found by an inverted index of their words.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

if TYPE_CHECKING:
    from sensorium.data.table.table import Table

_LEAST_WORDS = 3


class Quotes:
    """Captions of one table, ready to be compared with a text."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._parts: list[_Part] = []

    def find(self, table: Table, text: str) -> list[Int64[np.ndarray, " _"]]:
        """Rows that a text quotes: those with a caption that is it, then those with a caption that holds it.

        Args:
            table: The one of all calls; rows that were added since are read.
            text: Of a query.
        """
        wanted = _plain(pa.array([text.encode("utf-8", "replace").decode()]))[0].as_py()
        if not wanted:
            return []
        if len(table) != self._num_rows:
            self._parts += [_Part(first, lists) for first, lists in table.caption_lists(self._num_rows)]
            self._num_rows = len(table)
        same, within = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for part in self._parts:
            same.append(part.owners[pc.equal(part.texts, wanted).to_numpy(zero_copy_only=False)])
            if len(wanted.split()) >= _LEAST_WORDS:
                within.append(part.holding(wanted))
        first = np.unique(np.concatenate(same))
        return [first, np.setdiff1d(np.concatenate(within), first)]


class _Part:
    """Captions of some rows: their words, and the row of each."""

    def __init__(self, first_row: int, lists: pa.Array) -> None:
        self.texts = _plain(pc.struct_field(pc.list_flatten(lists), "text").fill_null(""))
        self.owners = first_row + pc.list_parent_indices(lists).to_numpy().astype(np.int64)

    def holding(self, wanted: str) -> Int64[np.ndarray, " r"]:
        """Row of each caption that holds these words one after the other."""
        vocabulary, starts, places = self._postings
        numbers = [vocabulary.get(word, -1) for word in wanted.split()]
        if -1 in numbers:
            return np.zeros(0, np.int64)
        lists = sorted((places[starts[one] : starts[one + 1]] for one in set(numbers)), key=len)
        found = lists[0]
        for other in lists[1:]:
            found = np.intersect1d(found, other)
        holds = [f" {wanted} " in f" {self.texts[place].as_py()} " for place in found.tolist()]
        rows: Int64[np.ndarray, " r"] = self.owners[found[np.array(holds, dtype=bool)]]
        return rows

    @cached_property
    def _postings(self) -> tuple[dict[str, int], Int64[np.ndarray, " v"], Int64[np.ndarray, " w"]]:
        """Number of each word, where its captions begin in the last array, and captions by word."""
        words = pc.utf8_split_whitespace(self.texts)
        coded = pc.list_flatten(words).dictionary_encode()
        numbers = coded.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(numbers, kind="stable")
        places = pc.list_parent_indices(words).to_numpy()[order].astype(np.int64)
        starts = np.searchsorted(numbers[order], np.arange(len(coded.dictionary) + 1))
        return dict(zip(coded.dictionary.to_pylist(), range(len(starts)), strict=False)), starts, places


def _plain(texts: pa.Array) -> pa.Array:
    """The words of texts in lower case, with a space between two."""
    lower = pc.utf8_lower(pc.utf8_normalize(texts, form="NFKC"))
    words = pc.replace_substring_regex(lower, r"[^\p{L}\p{M}\p{N}]+", " ")
    return pc.utf8_trim_whitespace(words)
