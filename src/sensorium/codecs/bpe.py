"""Byte-pair encoding: text to ids and back without loss, trained on the texts at hand.

In: any Unicode text. Out: ids whose decoding is that text (or its lower-case form, if so trained). Bytes are
the alphabet, so no character of any script is unknown (GPT-2, section 2.2; merges: arXiv:1508.07909). Special
tokens are added by the codec, never by what a user types. It knows no model: the JSON text is the whole
tokenizer.
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
    """Learn which neighbouring pieces to merge, the most frequent pair first.

    Args:
        texts: What to learn from; equal texts in equal order give the equal tokenizer.
        vocab_size: Most ids, with 256 bytes and 3 special tokens among them; few texts give fewer.
        lowercase: Whether texts are made lower-case first (then decoding gives lower case).
        min_count: Pairs seen less often are not merged.

    Returns:
        The tokenizer as JSON: ids of `<start>` text `<end>`; 0 is `<pad>`.

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
    """A byte-level byte-pair codec: trained here, or published with a language model.

    What a user types never becomes a special token, nor any other added piece but plain spaces (a published
    tokenizer marks `<think>` as ordinary text): it is spelt out in the pieces of ordinary text.

    Args:
        tokenizer_json: From `train_bpe`, or any byte-level tokenizer of the `tokenizers` package.
        num_ids: Ids of the model that goes with it, where they are more than the tokenizer's: output matrices
            are padded. Ids without a piece decode to nothing.
        special: Pieces of the vocabulary that are special too, though the JSON text does not list them.

    Raises:
        CheckpointError: If it is not a tokenizer, or not byte-level.
    """

    modality = "text"
    rate = None

    def __init__(self, tokenizer_json: str, num_ids: int = 0, special: Collection[str] = ()) -> None:
        self._tokenizer = read_tokenizer(tokenizer_json)
        if "ByteLevel" not in str(self._tokenizer.decoder):
            raise CheckpointError(
                "not a byte-level tokenizer; expected one of the kind of GPT-2, Llama 3 or Qwen"
            )
        self.json = _with_special(self._tokenizer, special) or tokenizer_json
        """The tokenizer as JSON text, as it was given."""
        self._tokenizer.encode_special_tokens = True
        added = self._tokenizer.get_added_tokens_decoder()
        self._silent = frozenset(number for number, token in added.items() if token.special)
        guarded = {token.content: number for number, token in added.items() if token.content.strip()}
        self.special_ids: Mapping[str, int] = MappingProxyType(guarded)
        """Ids of the pieces that only a program may write, by their text."""
        self.added: Mapping[str, AddedToken] = MappingProxyType(
            {token.content: token for token in added.values() if token.content.strip()}
        )
        """How each of these pieces is matched in a text."""
        self._tokenizer.add_special_tokens(
            [AddedToken(text, special=True, normalized=False) for text in guarded]
        )
        self._num_ids, self._num_own = num_ids, _num_ids(self._tokenizer)
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._forbidden = frozenset(
            number for text, number in guarded.items() if len(text) > 1 and text != unknown
        )
        self._cuts = re.compile("|".join(map(re.escape, sorted(guarded, key=len, reverse=True))) or "(?!)")

    def __reduce__(self) -> tuple[type[Bpe], tuple[str, int]]:
        return Bpe, (self.json, self._num_ids)

    @property
    def vocab_size(self) -> int:
        """How many ids there are: 0 to vocab_size - 1."""
        return max(self._num_own, self._num_ids)

    def is_silent(self, number: int) -> bool:
        """Whether an id is a special token, which decoding leaves out."""
        return number in self._silent

    def encode(self, text: str, *, with_special: bool = True) -> list[int]:
        """Return the ids of a text, with the special tokens at its ends or without.

        Raises:
            UsageError: If the text holds half a surrogate pair, or spells a special token as its only piece.
            CheckpointError: If the tokenizer fails over the text.
        """
        with tokenizer_errors("the tokenizer fails over a text"):
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
        return [*ids[: places[0]], *self._spelt(text), *ids[places[-1] + 1 :]]

    def _spelt(self, text: str) -> list[int]:
        """Ids of a text in which a special token is an ordinary piece too: cut within, it is several."""
        for parts in (self._cut(text), text):
            ids = [
                one for part in parts for one in self._tokenizer.encode(part, add_special_tokens=False).ids
            ]
            if self._forbidden.isdisjoint(ids):
                return ids
        raise UsageError(f"the tokenizer reads a special token in the text {text[:40]!a}; leave it out")

    def _cut(self, text: str) -> Iterator[str]:
        """The text in parts, cut after the first character of all that looks like a special token."""
        done = 0
        for match in self._cuts.finditer(text):
            yield text[done : match.start() + 1]
            done = match.start() + 1
        yield text[done:]

    def decode(self, ids: Ids) -> str:
        """Return the text of ids, special tokens left out; bytes that are no character become U+FFFD.

        Raises:
            UsageError: If one is no id.
        """
        spoken = [
            number
            for number in check_ids(ids, self.vocab_size).tolist()
            if number not in self._silent and number < self._num_own
        ]
        with tokenizer_errors("the tokenizer fails over ids"):
            text: str = self._tokenizer.decode(spoken, skip_special_tokens=False)
        return text

    def save(self, path: Path) -> None:
        """Write the JSON file, whole or not at all."""
        write_atomic(path, self.json)

    @classmethod
    def load(cls, path: Path) -> Bpe:
        """Read a JSON file.

        Raises:
            CheckpointError: If it is not there or not a tokenizer.
        """
        text = read_tokenizer_file(path)
        try:
            return cls(text)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error


def _with_special(tokenizer: Tokenizer, special: Collection[str]) -> str:
    """Declare pieces of the vocabulary special; return the new JSON text, or none if nothing changed."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    new = [
        one
        for one in special
        if one not in known
        and (number := tokenizer.token_to_id(one)) is not None
        and tokenizer.encode(one, add_special_tokens=False).ids != [number]  # an ordinary text would read so
    ]
    if not new:
        return ""
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in new])
    json: str = tokenizer.to_str()
    return json
