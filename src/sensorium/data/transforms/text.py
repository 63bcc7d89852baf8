"""Text to token ids, by a tokenizer kept as its JSON text.

In: text of any language. Out: ids (N,) int64, 1 <= N <= max_tokens. Truncation keeps the special tokens that
the tokenizer adds, the end token above all: dropping it is a known way to lose half of a CLIP score
(torchmetrics #2883). Special tokens typed by a user are plain text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from jaxtyping import Int64
from tokenizers import Tokenizer

from sensorium.core.errors import MediaError, UsageError
from sensorium.core.tokenizer import read_tokenizer
from sensorium.media.types import Media, Text


@dataclass(frozen=True)
class TextInput:
    """Tokenize a text.

    Attributes:
        tokenizer_json: A tokenizer of the `tokenizers` package as JSON; its own padding and truncation are
            ignored.
        max_tokens: Most ids of one text, special tokens included.
        word_dropout: In training, the chance that a word is left out; one word always stays.
    """

    tokenizer_json: str = field(repr=False)
    max_tokens: int = 64
    word_dropout: float = 0.0

    def __call__(self, media: Media | str, rng: np.random.Generator | None = None) -> Int64[np.ndarray, " N"]:
        """Return the ids of a text.

        Raises:
            UsageError: If `media` is not text.
            MediaError: If no token is left.
        """
        text = _text_of(media)
        if rng is not None and self.word_dropout > 0:
            text = _drop_words(text, self.word_dropout, rng)
        ids = _tokenizer(self.tokenizer_json, self.max_tokens).encode(text).ids
        if not ids:
            raise MediaError(f"text {text!r} holds no token; leave this row out or give it a caption")
        return np.asarray(ids, dtype=np.int64)

    def fits(self, text: str) -> bool:
        """Whether nothing of a text is cut off."""
        return not _tokenizer(self.tokenizer_json, self.max_tokens).encode(text).overflowing

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """First and past-the-last character of each id of a text; (0, 0) for special tokens."""
        encoding = _tokenizer(self.tokenizer_json, self.max_tokens).encode(text)
        pairs = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
        return [(0, 0) if is_special else offset for offset, is_special in pairs]


@lru_cache(maxsize=16)
def _tokenizer(json: str, max_tokens: int) -> Tokenizer:
    tokenizer = read_tokenizer(json)
    tokenizer.enable_truncation(max_tokens)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _text_of(media: Media | str) -> str:
    if isinstance(media, str):
        return media
    if isinstance(media, Text):
        return media.text
    raise UsageError(f"a text encoder got {type(media).__name__}; give a str or a Text")


def _drop_words(text: str, chance: float, rng: np.random.Generator) -> str:
    words = text.split()
    if len(words) < 2:
        return text
    keep = rng.random(len(words)) >= chance
    keep[rng.integers(len(words))] = True
    return " ".join(word for word, is_kept in zip(words, keep, strict=True) if is_kept)
