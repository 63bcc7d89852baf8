"""Text to token ids, by a tokenizer that is stored as JSON.

Input: text of any language. Output: ids (N,) int64, 1 <= N <= max_tokens. Truncation keeps the special tokens
that the tokenizer adds: without the end token a CLIP score drops by half (torchmetrics #2883). Special tokens
in the text itself are encoded as plain text.
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
    """Tokenizes a text.

    Attributes:
        tokenizer_json: A tokenizer of the `tokenizers` package as JSON; its padding and truncation settings
            are ignored.
        max_tokens: Largest number of ids, special tokens included.
        word_dropout: In training, probability that a word is dropped; at least one word stays.
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
            raise MediaError(f"text {text!r} has no token; leave this row out or give it a caption")
        return np.asarray(ids, dtype=np.int64)

    def fits(self, text: str) -> bool:
        """Whether a text is not truncated."""
        return not _tokenizer(self.tokenizer_json, self.max_tokens).encode(text).overflowing

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Character span (start, end) of each id of a text; (0, 0) for special tokens."""
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
