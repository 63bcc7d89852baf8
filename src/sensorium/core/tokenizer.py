"""Load tokenizers of the package `tokenizers` and convert its failures to `CheckpointError`.

Input: the JSON text of a tokenizer. Output: a checked `Tokenizer`. The package raises bare `Exception`, and
its Rust panics derive from `BaseException`; both become a `CheckpointError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from sensorium.core.errors import CheckpointError, SensoriumError

_PROBE = "a b"


def read_tokenizer(text: str) -> Tokenizer:
    """Build a tokenizer from its JSON text, without padding, truncation and merge dropout.

    Raises:
        CheckpointError: If the text is not a tokenizer, two tokens share an id, an added token would get
            another id than its own, or encoding of a short text fails.
    """
    with tokenizer_errors("not a tokenizer in JSON"):
        tokenizer = Tokenizer.from_str(text)
        _check_ids(tokenizer, text)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if getattr(tokenizer.model, "dropout", None):
            tokenizer.model.dropout = None
        tokenizer.decode(tokenizer.encode(_PROBE).ids, skip_special_tokens=False)
    return tokenizer


def read_tokenizer_file(path: Path) -> str:
    """Return the text of a tokenizer file; CheckpointError if it is not there or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"no tokenizer at {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} is not UTF-8 at byte {error.start}; expected the JSON of a tokenizer: fetch it again"
        ) from error


@contextmanager
def tokenizer_errors(what: str) -> Iterator[None]:
    """Convert any failure of the package to a `CheckpointError` that begins with `what`."""
    try:
        yield
    except (SensoriumError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{what}: {told}; fetch it again, or make one by train_bpe") from error


def num_ids(tokenizer: Tokenizer) -> int:
    """Largest token id plus one; ids may have gaps."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def _check_ids(tokenizer: Tokenizer, text: str) -> None:
    """Refuse a vocabulary whose ids the package would change silently."""
    vocab = tokenizer.get_vocab()
    if len(set(vocab.values())) < len(vocab):
        raise CheckpointError("two pieces of the tokenizer share an id; fetch it again")
    for piece in json.loads(text).get("added_tokens") or ():
        content, wanted = piece["content"], piece["id"]
        if content and vocab.get(content) != wanted:
            raise CheckpointError(
                f"added token '{content}' has id {wanted}, but the vocabulary leaves it "
                f"{vocab.get(content)}; expected ids without holes or duplicates"
            )
