"""Whisper's vocabulary: text tokens, timestamps and special tokens.

Input: `tokenizer.json`, and the ids that are never generated. Output: special ids, texts and words. Ids below
`end` are text; from `first_time` on, each id is a timestamp, 0.02 s apart. An English-only model has language
tokens in its vocabulary, but was not trained with them (arXiv:2212.04356, section 2.3).
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sensorium.core.errors import CheckpointError, UsageError
from sensorium.core.tokenizer import read_tokenizer

TIME_STEP_S = 0.02
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
_MULTILINGUAL_FROM = 51_865
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class DecodedWord:
    """A word of a transcript: text with its leading space, and ids."""

    text: str
    ids: tuple[int, ...]


class WhisperVocabulary:
    """Vocabulary of a Whisper model.

    Args:
        tokenizer_json: Content of `tokenizer.json`.
        vocab_size: Number of ids of the model; those beyond the tokenizer's are timestamps.
        suppressed: Ids that are never generated, such as signs that are not spoken.
        first_suppressed: Ids that are not generated first.
        is_multilingual: Whether language tokens are used; None: derived from `vocab_size`.

    Raises:
        CheckpointError: If a special token of Whisper is missing.
    """

    def __init__(
        self,
        tokenizer_json: str,
        vocab_size: int,
        suppressed: Sequence[int] = (),
        first_suppressed: Sequence[int] = (),
        is_multilingual: bool | None = None,
    ) -> None:
        self._tokenizer = read_tokenizer(tokenizer_json)
        self._tokenizer.encode_special_tokens = True
        self.vocab_size = vocab_size
        self.is_multilingual = (
            vocab_size >= _MULTILINGUAL_FROM if is_multilingual is None else is_multilingual
        )
        self.end = self._special_id("endoftext")
        self.start = self._special_id("startoftranscript")
        self.previous = self._special_id("startofprev")
        self.no_times = self._special_id("notimestamps")
        self.no_speech = self._special_id("nospeech", "nocaptions")
        self.first_time = self.no_times + 1
        marks = [self._special_id(name) for name in ("translate", "transcribe", "startoflm")]
        self.suppressed = tuple(sorted({*suppressed, *marks, self.start, self.previous, self.no_speech}))
        self.first_suppressed = tuple(first_suppressed)

    @cached_property
    def languages(self) -> Mapping[str, int]:
        """Language token by language code; an English-only model has only `en`."""
        if not self.is_multilingual:
            return {"en": self._special_id("en")}
        found = {}
        for mark, number in self._tokenizer.get_vocab(with_added_tokens=True).items():
            match = _LANGUAGE.fullmatch(mark)
            if match:
                found[match[1]] = number
        return found

    def opening(self, language: str = "", *, is_timed: bool = True) -> list[tuple[int, ...]]:
        """Return the special tokens that follow `start`: for each position, the allowed ids.

        Args:
            language: Language code; empty: the model detects it.
            is_timed: Whether timestamps are generated.

        Raises:
            UsageError: If the model does not know the language.
        """
        if language and language not in self.languages:
            known = ", ".join(sorted(self.languages))
            raise UsageError(f"this recogniser does not know the language '{language}'; it knows {known}")
        marks: list[tuple[int, ...]] = []
        if self.is_multilingual:
            asked = (self.languages[language],) if language else tuple(self.languages.values())
            marks = [asked, (self._special_id("transcribe"),)]
        return marks if is_timed else [*marks, (self.no_times,)]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; special tokens in it are encoded as plain text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids without special tokens and timestamps."""
        text: str = self._tokenizer.decode([one for one in ids if one < self.end])
        return text

    def words(self, ids: Sequence[int], language: str = "en") -> list[DecodedWord]:
        """Split ids of text into words, or into characters for languages without spaces."""
        characters = self._characters(ids)
        if language in _UNSPACED:
            return characters
        words: list[DecodedWord] = []
        for piece in characters:
            is_new = piece.text.startswith(" ") or piece.text.strip() in string.punctuation
            if is_new or not words:
                words.append(piece)
            else:
                words[-1] = DecodedWord(words[-1].text + piece.text, words[-1].ids + piece.ids)
        return words

    def _characters(self, ids: Sequence[int]) -> list[DecodedWord]:
        """Split ids into the shortest runs that decode to complete characters."""
        whole, done, place = self.decode(ids), 0, 0
        found: list[DecodedWord] = []
        for stop in range(1, len(ids) + 1):
            text = self.decode(ids[done:stop])
            at = text.find(_REPLACEMENT)
            if at < 0 or whole[place + at : place + at + 1] == _REPLACEMENT:
                found.append(DecodedWord(text, tuple(ids[done:stop])))
                done, place = stop, place + len(text)
        return found

    def _special_id(self, *names: str) -> int:
        for name in names:
            number: int | None = self._tokenizer.token_to_id(f"<|{name}|>")
            if number is not None:
                return number
        raise CheckpointError(f"tokenizer.json has no <|{names[0]}|>; expected that of a Whisper model")
