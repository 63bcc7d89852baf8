"""What a search asks for: one vector from a text, a file, a row, an array, or from several by `a + b - c`.

In: terms with signs. Out: a unit vector. The sum is over unit vectors, each with weight 1 or -1, as in
Mikolov et al. (king - man + woman), arXiv 1301.3781. Does not know how the vector is compared with a
table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import Embedder
from sensorium.data.table.table import Table
from sensorium.media import Text
from sensorium.media.path_or_text import as_words, file_or_text

OPERATORS = {"+": 1.0, "-": -1.0}
_MIN_ID_LENGTH = 4
_MIN_LENGTH = 1e-6


@dataclass(frozen=True)
class Term:
    """One operand of a query.

    Attributes:
        item: A text, the path of a media file, the number of a row, or a vector (E,).
        weight: 1 or -1.
    """

    item: str | Path | int | np.ndarray
    weight: float = 1.0

    @property
    def label(self) -> str:
        """How the term is shown."""
        if isinstance(self.item, np.ndarray):
            return "vector"
        if isinstance(self.item, Path):
            return self.item.name
        return f"row {self.item}" if isinstance(self.item, int) else self.item


def parse_terms(words: Sequence[str], *, is_text: bool = False) -> list[Term]:
    """Read a query as a shell hands it over: a lone `+` or `-` is an operator, words between belong together.

    A term that is the path of an existing file is that file; what only looks like a path is refused, the rest
    is text. A `+` within a word stays.

    Args:
        words: Arguments of the command.
        is_text: Never read a term as a path.

    Raises:
        UsageError: If an operator has nothing to work on, or a term looks like the path of a file that is not
            there (see `media.path_or_text`).

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
    """The query in words, for headings.

    Example:
        >>> describe([Term("a frog"), Term("green", -1.0)])
        'a frog - green'
    """
    words = "".join(f" {'+' if term.weight > 0 else '-'} {term.label}" for term in terms)
    return words.removeprefix(" + ").strip()


def query_vector(
    terms: Sequence[Term], model: Embedder | None, table: Table, *, field: str, fingerprint: str
) -> Float32[np.ndarray, " E"]:
    """Add the terms up in the joint space.

    Args:
        terms: At least one.
        model: Embeds texts and files; may be None where there are only rows and vectors.
        table: Where the vectors of rows are.
        field: Field whose vector stands for a row, where the row has it.
        fingerprint: Of the model that embedded the table.

    Returns:
        A unit vector.

    Raises:
        UsageError: If the terms cancel out, or a vector is not of the space's width.
    """
    embedded = _embed_items([term.item for term in terms if isinstance(term.item, str | Path)], model)
    total: np.ndarray | None = None
    for term in terms:
        if isinstance(term.item, str | Path):
            vector = next(embedded)
        elif isinstance(term.item, int):
            vector = row_vector(table, term.item, field=field, fingerprint=fingerprint)
        else:
            vector = _unit(np.asarray(term.item, dtype=np.float32), term.label)
        if total is not None and total.shape != vector.shape:
            raise UsageError(
                f"{term.label} has {vector.size} numbers, the others {total.size}; embed them by one model"
            )
        total = term.weight * vector if total is None else total + term.weight * vector
    if total is None:
        raise UsageError("nothing to search for; give a text, a file, --like ROW or --vector FILE")
    return _unit(total, describe(terms))


def row_vector(table: Table, row: int, *, field: str, fingerprint: str) -> Float32[np.ndarray, " E"]:
    """Mean direction of a row's vectors of `field`, or of the first other field that it has.

    Raises:
        NotFoundError: If the row was not embedded.
    """
    fields = table.fields_embedded().get(fingerprint, [])
    for name in sorted(fields, key=lambda name: name != field):
        vectors = table.row_vectors(name, fingerprint, row)
        if len(vectors):
            return _unit(vectors.mean(axis=0), f"row {row}")
    raise NotFoundError(f"row {row} has no vector; run: sensorium embed {table.path}")


def find_row(table: Table, like: str) -> int:
    """Number of the row that `like` names: a number, or (the beginning of) an id.

    Raises:
        NotFoundError: If there is none.
        UsageError: If several ids begin like that.
    """
    if like.isdecimal() and int(like) < len(table):
        return int(like)
    found = (
        [row for row, name in enumerate(table.ids) if name.startswith(like)]
        if len(like) >= _MIN_ID_LENGTH
        else []
    )
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
        UsageError: If it is not one vector of numbers.
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


def _unit(vector: np.ndarray, label: str) -> Float32[np.ndarray, " E"]:
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < _MIN_LENGTH:
        raise UsageError(f"{label}: the vector has length {length:.3g}; expected a direction")
    return np.asarray(vector / length, dtype=np.float32)
