"""Byte-pair encoding: text to ids and back without loss, trained on the texts at hand.

In: any Unicode text. Out: ids whose decoding is that text (or its lower-case form, if so trained). Bytes are
the alphabet, so no character of any script is unknown (GPT-2, section 2.2; merges: arXiv:1508.07909). Special
tokens are added by the codec, never by what a user types. It knows no model: the JSON text is the whole
tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    Raises:
        CheckpointError: If it is not a tokenizer, or not byte-level.
    """

    modality = "text"
    rate = None

    def __init__(self, tokenizer_json: str) -> None:
        self.json = tokenizer_json
        """The tokenizer as JSON text, as it was given."""
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the package raises bare Exception
            raise CheckpointError(f"not a tokenizer in JSON: {error}; make one by train_bpe") from error
        if "ByteLevel" not in str(self._tokenizer.decoder):
            raise CheckpointError(
                "not a byte-level tokenizer; expected one of the kind of GPT-2, Llama 3 or Qwen"
            )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        added = self._tokenizer.get_added_tokens_decoder()
        self._silent = frozenset(number for number, token in added.items() if token.special)
        guarded = {token.content: number for number, token in added.items() if token.content.strip()}
        self.special_ids: Mapping[str, int] = MappingProxyType(guarded)
        """Ids of the pieces that only a program may write, by their text."""
        self._tokenizer.add_special_tokens(
            [AddedToken(text, special=True, normalized=False) for text in guarded]
        )

    def __reduce__(self) -> tuple[type[Bpe], tuple[str]]:
        return Bpe, (self.json,)

    @property
    def vocab_size(self) -> int:
        """How many ids there are: 0 to vocab_size - 1."""
        size: int = self._tokenizer.get_vocab_size()
        return size

    def encode(self, text: str, *, with_special: bool = True) -> list[int]:
        """Return the ids of a text, with the special tokens at its ends or without."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=with_special).ids
        return ids

    def decode(self, ids: Ids) -> str:
        """Return the text of ids, special tokens left out; bytes that are no character become U+FFFD.

        Raises:
            UsageError: If one is no id.
        """
        spoken = [number for number in check_ids(ids, self.vocab_size).tolist() if number not in self._silent]
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
        try:
            return cls(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointError(f"no tokenizer at {path}: {error.strerror}") from error
