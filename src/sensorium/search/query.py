"""Queries and hits: parses a query, computes its vector, and defines what a search returns.

A query is a text, a file, a row, a vector, or a sum of these ("a + b - c"). Its vector is the normalised sum
of unit vectors with weights 1 and -1, as in Mikolov et al. (king - man + woman), arXiv 1301.3781.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import Embedder
from sensorium.media import Audio, Image, Text, Video
from sensorium.media.path_or_text import as_words, file_or_text, refuse_file_name

if TYPE_CHECKING:
    from sensorium.data.table.table import Table

Query = str | Path | bytes | Image | Audio | Video | Text | np.ndarray

OPERATORS = {"+": 1.0, "-": -1.0}
_MIN_ID_LENGTH = 4
_MIN_LENGTH = 1e-6


@dataclass(frozen=True)
class Hit:
    """A row that a search found.

    Attributes:
        id: Content id.
        row: Row number.
        score: Greatest cosine between the query and the searched vectors of the row.
        uri: Where the medium came from.
        texts: First caption in each language.
        field: Field of the best vector.
        relevance: Share of background queries whose best wrong answer scores lower; 1 for a phrase match;
            None if the search has no `min_score`.
        is_phrase_match: Whether a caption contains the query word for word. Phrase matches rank first.
    """

    id: str
    row: int
    score: float
    uri: str
    texts: dict[str, str]
    field: str
    relevance: float | None = None
    is_phrase_match: bool = False


@dataclass(frozen=True)
class Term:
    """One operand of a query.

    Attributes:
        item: A text, the path of a media file, a row number, or a vector (E,).
        weight: 1 or -1.
    """

    item: str | Path | int | np.ndarray
    weight: float = 1.0

    @property
    def label(self) -> str:
        """The term as text."""
        if isinstance(self.item, np.ndarray):
            return "vector"
        if isinstance(self.item, Path):
            return self.item.name
        return f"row {self.item}" if isinstance(self.item, int) else self.item


def parse_terms(words: Sequence[str], *, is_text: bool = False) -> list[Term]:
    """Parse command-line arguments: an argument `+` or `-` is an operator, the words between form one term.

    A term that is the path of an existing file is that file; other terms are text. A `+` within an argument
    is text.

    Args:
        words: Arguments of the command.
        is_text: Never read a term as a path.

    Raises:
        UsageError: If an operator has no operand, or a term looks like the path of a file that does not exist
            (see `media.path_or_text`).

    Example:
        >>> [(term.weight, term.item) for term in parse_terms(["a", "frog", "-", "green"])]
        [(1.0, 'a frog'), (-1.0, 'green')]
        >>> [term.item for term in parse_terms(["C++ + Rust"])]
        ['C++ + Rust']
    """
    terms: list[Term] = []
    weight, group = 1.0, list[str]()
    for place, word in enumerate([*words, None]):
        if word is not None and word not in OPERATORS:
            group.append(word)
            continue
        text = " ".join(group).strip()
        if text:
            item = text if is_text else file_or_text(text, remedy="for words add --text")
            terms.append(Term(item, weight))
        elif place > 0 or word is None:
            raise UsageError(f"query '{' '.join(words)}': expected a text or a file beside each + and -")
        weight, group = OPERATORS.get(word or "", 1.0), []
    return terms


def describe(terms: Sequence[Term]) -> str:
    """The query as text, for headings.

    Example:
        >>> describe([Term("a frog"), Term("green", -1.0)])
        'a frog - green'
    """
    words = "".join(f" {'+' if term.weight > 0 else '-'} {term.label}" for term in terms)
    return words.removeprefix(" + ").strip()


def query_vector(
    terms: Sequence[Term], model: Embedder | None, table: Table, *, field: str, fingerprint: str
) -> Float32[np.ndarray, " E"]:
    """Unit vector of a sum of terms.

    Args:
        terms: At least one.
        model: Embeds texts and files; may be None if there are only rows and vectors.
        table: Holds the vectors of rows.
        field: Field whose vectors represent a row, if the row has it.
        fingerprint: Fingerprint of the model that embedded the table.

    Raises:
        UsageError: If the terms cancel out, or vectors differ in width.
    """
    embedded = _embed_items([term.item for term in terms if isinstance(term.item, str | Path)], model)
    total: np.ndarray | None = None
    for term in terms:
        if isinstance(term.item, str | Path):
            vector = next(embedded)
        elif isinstance(term.item, int):
            vector = row_vector(table, term.item, field=field, fingerprint=fingerprint)
        else:
            vector = unit(np.asarray(term.item, dtype=np.float32), term.label)
        if total is not None and total.shape != vector.shape:
            raise UsageError(
                f"{term.label} has {vector.size} numbers, the others {total.size}; embed them by one model"
            )
        total = term.weight * vector if total is None else total + term.weight * vector
    if total is None:
        raise UsageError("nothing to search for; give a text, a file, --like ROW or --vector FILE")
    return unit(total, describe(terms))


def row_vector(table: Table, row: int, *, field: str, fingerprint: str) -> Float32[np.ndarray, " E"]:
    """Normalised mean of a row's vectors of `field`, or of the first other field that it has.

    Raises:
        NotFoundError: If the row has no vector.
    """
    fields = table.fields_embedded().get(fingerprint, [])
    for name in sorted(fields, key=lambda name: name != field):
        vectors = table.row_vectors(name, fingerprint, row)
        if len(vectors):
            return unit(vectors.mean(axis=0), f"row {row}")
    raise NotFoundError(f"row {row} has no vector; run: sensorium embed {table.path}")


def find_row(table: Table, like: str) -> int:
    """Row number of `like`, which is a row number or a prefix of an id.

    Raises:
        NotFoundError: If there is no such row.
        UsageError: If several ids have this prefix.
    """
    if like.isdecimal() and int(like) < len(table):
        return int(like)
    is_prefix = len(like) >= _MIN_ID_LENGTH
    found = [row for row, name in enumerate(table.ids) if name.startswith(like)] if is_prefix else []
    if len(found) > 1:
        raise UsageError(f"{len(found)} ids begin with '{like}'; give more of it")
    if not found:
        step = f"give a number 0..{len(table) - 1} or an id" if len(table) else "it is empty"
        raise NotFoundError(f"no row '{like}' in {table.path}; {step}")
    return found[0]


def read_vector(path: Path) -> Float32[np.ndarray, " E"]:
    """Read one vector from a `.npy` file.

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If it does not contain one vector of numbers.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}; give a .npy file with one vector")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"{path} is not a .npy file of numbers; write one by numpy.save") from error
    if array.size != max(array.shape, default=0) or not np.issubdtype(array.dtype, np.number):
        raise UsageError(f"{path} holds {array.dtype} {array.shape}; expected one vector of numbers")
    return np.asarray(array, dtype=np.float32).reshape(-1)


def _embed_items(items: Sequence[str | Path], model: Embedder | None) -> Iterator[np.ndarray]:
    if not items:
        return iter(())
    if model is None:
        raise UsageError("a text or a file needs the model that embedded the table; give --model RUN")
    words: list[str | Text | Path] = [as_words(one) if isinstance(one, str) else one for one in items]
    return iter(model.embed(words).vectors)


def embed_query(query: Query, model: Embedder) -> Float32[np.ndarray, " E"]:
    """Unit vector of a query that is not a sum of terms.

    Raises:
        UsageError: If a vector is not of shape (E,), or has no direction, or a `str` names a file.
    """
    if isinstance(query, str):
        refuse_file_name(query)
    if not isinstance(query, np.ndarray):
        embedded: Float32[np.ndarray, " E"] = model.embed([query]).vectors[0]
        return embedded
    if query.ndim != 1:
        raise UsageError(f"a query vector has shape (E,), got {query.shape}")
    return unit(np.asarray(query, dtype=np.float32), "query")


def unit(vector: np.ndarray, label: str) -> Float32[np.ndarray, " E"]:
    """Normalise a vector to length 1; `label` names it in errors.

    Raises:
        UsageError: If it is near 0 or not finite.
    """
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < _MIN_LENGTH:
        raise UsageError(f"{label}: the vector has length {length:.3g}; expected a direction")
    return np.asarray(vector / length, dtype=np.float32)
