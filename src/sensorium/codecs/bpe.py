"""Byte-level byte-pair encoding (BPE): training, encoding and decoding of text without loss.

Input: any Unicode text. Output: ids that decode to the same text, or to its lower case if trained so. The
alphabet is all bytes, so no character is unknown (GPT-2, section 2.2; merges: arXiv:1508.07909). Text that
spells a special token is not encoded as one. A tokenizer is saved as the JSON of the `tokenizers` package.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from sensorium.codecs.contract import CODECS, Ids, check_ids
from sensorium.core.errors import CheckpointError, UsageError
from sensorium.core.files import write_atomic
from sensorium.core.tokenizer import num_ids as _num_ids
from sensorium.core.tokenizer import read_tokenizer, read_tokenizer_file, tokenizer_errors

PAD, START, END = "<pad>", "<start>", "<end>"
_ALPHABET = 256


def train_bpe(texts: Iterable[str], vocab_size: int, *, lowercase: bool = False, min_count: int = 2) -> str:
    """Train a tokenizer: merge the most frequent pair of neighbouring tokens, again and again.

    Args:
        texts: Training texts; equal texts in equal order give an equal tokenizer.
        vocab_size: Maximum number of ids, with 256 bytes and 3 special tokens.
        lowercase: Whether to convert texts to lower case.
        min_count: Rarer pairs are not merged.

    Returns:
        The tokenizer as JSON. It encodes a text as `<start>` text `<end>`; id 0 is `<pad>`.

    Raises:
        UsageError: If the bytes do not fit in `vocab_size`.

    Example:
        >>> bpe = Bpe(train_bpe(["low lower lowest"] * 9, 300))
        >>> bpe.decode(bpe.encode("a lower émeu"))
        'a lower émeu'
    """
    least = _ALPHABET + 3
    if vocab_size < least:
        raise UsageError(
            f"vocab_size={vocab_size} is less than the {least} bytes and special tokens; try 4000"
        )
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (START, END)],
    )
    json: str = tokenizer.to_str()
    return json


@CODECS.register("bpe")
class Bpe:
    """A byte-level BPE codec, trained by `train_bpe` or published with a language model.

    Text never becomes a special token or another added token, except for spaces: it is encoded with ordinary
    tokens. This holds also for added tokens that are not marked as special, such as `<think>`.

    Args:
        tokenizer_json: From `train_bpe`, or any byte-level tokenizer of the `tokenizers` package.
        num_ids: Vocabulary size of the model, if its output matrix is padded. Ids beyond the tokenizer's
            decode to nothing.
        special: Further special tokens, which the JSON does not declare.

    Raises:
        CheckpointError: If it is not a tokenizer, or not byte-level.

    Attributes:
        json: The tokenizer as JSON.
        special_ids: Ids of the special and added tokens by their text.
        added: How each of these tokens matches in a text.
    """

    modality = "text"
    rate = None

    def __init__(self, tokenizer_json: str, num_ids: int = 0, special: Collection[str] = ()) -> None:
        self._tokenizer = read_tokenizer(tokenizer_json)
        if "ByteLevel" not in str(self._tokenizer.decoder):
            raise CheckpointError(
                "not a byte-level tokenizer; expected one like that of GPT-2, Llama 3 or Qwen"
            )
        self.json = _with_special(self._tokenizer, special) or tokenizer_json
        self._tokenizer.encode_special_tokens = True
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = frozenset(number for number, token in added.items() if token.special)
        named = {token.content: number for number, token in added.items() if token.content.strip()}
        self.special_ids: Mapping[str, int] = MappingProxyType(named)
        self.added: Mapping[str, AddedToken] = MappingProxyType(
            {token.content: token for token in added.values() if token.content.strip()}
        )
        self._tokenizer.add_special_tokens(
            [AddedToken(text, special=True, normalized=False) for text in named]
        )
        self._num_ids, self._num_own = num_ids, _num_ids(self._tokenizer)
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._forbidden = frozenset(
            number for text, number in named.items() if len(text) > 1 and text != unknown
        )
        self._pattern = re.compile("|".join(map(re.escape, sorted(named, key=len, reverse=True))) or "(?!)")

    def __reduce__(self) -> tuple[type[Bpe], tuple[str, int]]:
        return Bpe, (self.json, self._num_ids)

    @property
    def vocab_size(self) -> int:
        """Number of ids: 0 to vocab_size - 1."""
        return max(self._num_own, self._num_ids)

    def is_special(self, number: int) -> bool:
        """Whether an id is a special token, which `decode` leaves out."""
        return number in self._special

    def encode(self, text: str, *, with_special: bool = True) -> list[int]:
        """Encode a text, with or without the special tokens at its ends.

        Raises:
            UsageError: If the text has half a surrogate pair, or a special token is its only encoding.
            CheckpointError: If the tokenizer fails.
        """
        with tokenizer_errors("the tokenizer fails to encode a text"):
            try:
                found = self._tokenizer.encode(text, add_special_tokens=with_special)
            except TypeError as error:
                raise UsageError(f"a text with half a surrogate pair: {text[:40]!a}; leave it out") from error
        ids: list[int] = found.ids
        if self._forbidden.isdisjoint(ids):
            return ids
        places = [place for place, is_added in enumerate(found.special_tokens_mask) if not is_added]
        if self._forbidden.isdisjoint(ids[place] for place in places):
            return ids
        return [*ids[: places[0]], *self._encode_split(text), *ids[places[-1] + 1 :]]

    def _encode_split(self, text: str) -> list[int]:
        """Encode a text that spells special tokens: split within them, they become several tokens."""
        for parts in (self._split(text), text):
            ids = [
                one for part in parts for one in self._tokenizer.encode(part, add_special_tokens=False).ids
            ]
            if self._forbidden.isdisjoint(ids):
                return ids
        raise UsageError(f"the tokenizer encodes {text[:40]!a} as a special token; leave it out")

    def _split(self, text: str) -> Iterator[str]:
        """Split a text after the first character of each special token that it spells."""
        done = 0
        for match in self._pattern.finditer(text):
            yield text[done : match.start() + 1]
            done = match.start() + 1
        yield text[done:]

    def decode(self, ids: Ids) -> str:
        """Decode ids without special tokens; invalid UTF-8 becomes U+FFFD.

        Raises:
            UsageError: If an id is not in the vocabulary.
        """
        known = check_ids(ids, self.vocab_size).tolist()
        shown = [one for one in known if one not in self._special and one < self._num_own]
        with tokenizer_errors("the tokenizer fails to decode ids"):
            text: str = self._tokenizer.decode(shown, skip_special_tokens=False)
        return text

    def save(self, path: Path) -> None:
        """Write the JSON file; it is complete or absent."""
        write_atomic(path, self.json)

    @classmethod
    def load(cls, path: Path) -> Bpe:
        """Read a JSON file.

        Raises:
            CheckpointError: If there is no such file, or it is not a tokenizer.
        """
        text = read_tokenizer_file(path)
        try:
            return cls(text)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error


def _with_special(tokenizer: Tokenizer, special: Collection[str]) -> str:
    """Declare tokens of the vocabulary special; return the new JSON, or "" if nothing changed."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    new = [
        one
        for one in special
        if one not in known
        and (number := tokenizer.token_to_id(one)) is not None
        and tokenizer.encode(one, add_special_tokens=False).ids != [number]  # else text encodes to it
    ]
    if not new:
        return ""
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in new])
    json: str = tokenizer.to_str()
    return json
