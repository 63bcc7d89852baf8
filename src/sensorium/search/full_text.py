"""Phrase search in captions: rows with a caption that equals or contains a text, word for word.

Input: a table and a text. Output: the rows with an equal caption, and those with a caption that contains the
text; case and punctuation are ignored. Texts of fewer than three words match whole captions only, since they
are part of too many captions. Captions are read once, use about twice their size in memory, and are found by
an inverted index of words.
"""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

if TYPE_CHECKING:
    from sensorium.data.table.table import Table

_MIN_WORDS = 3


class PhraseIndex:
    """Index of the captions of one table; rows added later are indexed at the next call."""

    def __init__(self, table: Table) -> None:
        self._table, self._num_rows = table, 0
        self._parts: list[_Part] = []
        self._lock = Lock()

    def find(self, text: str) -> list[Int64[np.ndarray, " _"]]:
        """Rows with a caption equal to `text`, then rows with a caption that contains it."""
        phrase = _normalise(pa.array([text.encode("utf-8", "replace").decode()]))[0].as_py()
        if not phrase:
            return []
        with self._lock:
            if len(self._table) != self._num_rows:
                lists = self._table.caption_lists(self._num_rows)
                self._parts += [_Part(first, captions) for first, captions in lists]
                self._num_rows = len(self._table)
            parts = list(self._parts)
        equal, containing = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for part in parts:
            equal.append(part.owners[pc.equal(part.texts, phrase).to_numpy(zero_copy_only=False)])
            if len(phrase.split()) >= _MIN_WORDS:
                containing.append(part.containing(phrase))
        first = np.unique(np.concatenate(equal))
        return [first, np.setdiff1d(np.concatenate(containing), first)]


class _Part:
    """Captions of some rows: normalised text and row of each."""

    def __init__(self, first_row: int, lists: pa.Array) -> None:
        self.texts = _normalise(pc.struct_field(pc.list_flatten(lists), "text").fill_null(""))
        self.owners = first_row + pc.list_parent_indices(lists).to_numpy().astype(np.int64)

    def containing(self, phrase: str) -> Int64[np.ndarray, " r"]:
        """Row of each caption that contains the words of `phrase` consecutively."""
        vocabulary, starts, captions = self._postings
        words = [vocabulary.get(word, -1) for word in phrase.split()]
        if -1 in words:
            return np.zeros(0, np.int64)
        lists = sorted((captions[starts[one] : starts[one + 1]] for one in set(words)), key=len)
        found = lists[0]
        for other in lists[1:]:
            found = np.intersect1d(found, other)
        is_match = [f" {phrase} " in f" {self.texts[place].as_py()} " for place in found.tolist()]
        rows: Int64[np.ndarray, " r"] = self.owners[found[np.array(is_match, dtype=bool)]]
        return rows

    @cached_property
    def _postings(self) -> tuple[dict[str, int], Int64[np.ndarray, " v"], Int64[np.ndarray, " w"]]:
        """Inverted index: number of each word, start of its posting list, and posting lists (captions)."""
        words = pc.utf8_split_whitespace(self.texts)
        coded = pc.list_flatten(words).dictionary_encode()
        numbers = coded.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(numbers, kind="stable")
        captions = pc.list_parent_indices(words).to_numpy()[order].astype(np.int64)
        starts = np.searchsorted(numbers[order], np.arange(len(coded.dictionary) + 1))
        return dict(zip(coded.dictionary.to_pylist(), range(len(starts)), strict=False)), starts, captions


def _normalise(texts: pa.Array) -> pa.Array:
    """Lower-case words (NFKC) of texts, separated by single spaces."""
    lower = pc.utf8_lower(pc.utf8_normalize(texts, form="NFKC"))
    words = pc.replace_substring_regex(lower, r"[^\p{L}\p{M}\p{N}]+", " ")
    return pc.utf8_trim_whitespace(words)
