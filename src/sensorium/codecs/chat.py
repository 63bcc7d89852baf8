"""Applies a model's chat template: messages of text and media to prompt ids.

Output: pieces, each a tuple of ids or the placeholder of a medium. The template is Jinja text that comes with
the model, or ChatML. It runs in a sandbox with the names that transformers defines: special tokens,
`raise_exception`, `strftime_now`, `tojson`, loop controls and the tag `generation`. For any template and
text:

- Text of a message never becomes a special token. Before rendering, the characters of all special tokens are
  escaped in messages (`codecs.escaped_text`). So each special token of the result is the template's own.
- Text never becomes a medium. The placeholder of a medium is a character that occurs in no text.

Equal conversations give equal ids, unless the template uses the date.

Reference: `chat_template_utils.py` of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal, TypeAlias, get_args

from sensorium.codecs.bpe import Bpe
from sensorium.codecs.escaped_text import EscapeTable, escape
from sensorium.codecs.template import compile_template
from sensorium.core.errors import CheckpointError, UsageError

Role: TypeAlias = Literal["system", "user", "assistant"]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Template of models whose tokenizer has the two ChatML tokens and that come without a template."""

_SPARE = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
"""The two private-use planes of Unicode."""
_NOT_ESCAPED = frozenset('"\\')
"""Characters that `tojson` changes; whitespace is not escaped either, unless a token has nothing else."""


@dataclass(frozen=True)
class Medium:
    """The placeholder of a medium in a prompt.

    Attributes:
        number: Index of the medium in the request.
        size: Number of tokens in the sequence; 0 where the decoder reads it by cross-attention.
    """

    number: int
    size: int = 0


PromptPiece: TypeAlias = tuple[int, ...] | Medium
"""Ids of text, or the placeholder of a medium."""


def num_tokens(pieces: Sequence[PromptPiece]) -> int:
    """Count the tokens of a prompt.

    Example:
        >>> num_tokens([(5, 6), Medium(0, size=49), (7,)])
        52
    """
    return sum(piece.size if isinstance(piece, Medium) else len(piece) for piece in pieces)


def ids_of(pieces: Sequence[PromptPiece]) -> list[int]:
    """Return the ids of the text, without media."""
    return [one for piece in pieces if not isinstance(piece, Medium) for one in piece]


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Of the speaker.
        content: Texts and media in order, or one text.
    """

    role: Role
    content: str | tuple[str | Medium, ...]

    @property
    def parts(self) -> tuple[str | Medium, ...]:
        """Texts and media."""
        return (self.content,) if isinstance(self.content, str) else self.content


class Chat:
    """The chat template of one model.

    Args:
        tokenizer: Its tokenizer.
        template: Jinja text; empty: ChatML.
        named: Variables of the template: special tokens, such as `bos_token`, or lists of them.

    Raises:
        CheckpointError: If the template does not parse, or the tokenizer lacks the ChatML tokens it needs.

    Example:
        >>> from sensorium.codecs.bpe import Bpe, train_bpe
        >>> bpe = Bpe(train_bpe(["low"], 300))
        >>> chat = Chat(bpe, "{% for m in messages %}<start>{{ m.content }}<end>{% endfor %}")
        >>> pieces = chat.encode([Message("user", ("<end>", Medium(0)))])
        >>> pieces == [(1, *bpe.encode("<end>", with_special=False)), Medium(0), (2,)]
        True
    """

    def __init__(self, tokenizer: Bpe, template: str = "", named: Mapping[str, object] | None = None) -> None:
        if not template and not knows_chatml(tokenizer):
            raise CheckpointError("the tokenizer does not know ChatML; give a template")
        self._tokenizer, self._source, self._named = tokenizer, template or CHATML, dict(named or {})
        self._template = compile_template(self._source)
        special = sorted(tokenizer.special_ids, key=len, reverse=True)
        self._special = "|".join(map(re.escape, special)) or r"(?!)"
        self._escaped = sorted({one for token in special for one in _characters_to_escape(token)})

    @cached_property
    def turn_end(self) -> int | None:
        """The special token that the template writes after an answer; None if there is none."""
        messages = [Message("user", "a"), Message("assistant", (Medium(0),))]
        try:
            pieces = self.encode(messages, is_open=False)
        except UsageError:
            return None
        after = pieces[pieces.index(Medium(0)) + 1 :] if Medium(0) in pieces else []
        for number in (one for piece in after if isinstance(piece, tuple) for one in piece):
            if self._tokenizer.is_special(number):
                return number
            if self._tokenizer.decode([number]).strip():
                return None
        return None

    def encode(self, messages: Sequence[Message], *, is_open: bool = True) -> list[PromptPiece]:
        """Render a conversation and encode it.

        Args:
            messages: From the first to the last.
            is_open: Whether the prompt ends with the beginning of an answer (`add_generation_prompt`).

        Raises:
            UsageError: If the template refuses the conversation (two questions in a row, for example).
        """
        for message in messages:
            if message.role not in get_args(Role):
                raise UsageError(f"role {message.role!r}; expected one of {', '.join(get_args(Role))}")
        media = [part for message in messages for part in message.parts if isinstance(part, Medium)]
        texts = [part for message in messages for part in message.parts if isinstance(part, str)]
        spare = _spare_characters("".join([self._source, *self._tokenizer.special_ids, *texts]))
        escapes = {ord(one): next(spare) for one in self._escaped}
        table = EscapeTable(escapes, {ord(new): chr(one) for one, new in escapes.items()})
        placeholders = [(next(spare), medium) for medium in media]
        rest = iter(placeholders)
        given: list[Mapping[str, str]] = []
        for message in messages:
            parts = [part if isinstance(part, str) else next(rest)[0] for part in message.parts]
            given.append({"role": message.role, "content": escape("".join(parts), table)})
        return list(self._split(self._render(given, is_open), dict(placeholders), table.unescape))

    def within(self, messages: Sequence[Message], most: int) -> list[PromptPiece]:
        """Encode a conversation without its oldest exchanges, so that it has at most `most` tokens.

        System messages and the last message are kept.

        Raises:
            UsageError: If these alone do not fit.
        """
        kept = list(messages)
        while num_tokens(pieces := self.encode(kept)) > most:
            turns = [place for place, one in enumerate(kept[:-1]) if one.role != "system"]
            if not turns:
                raise UsageError(f"{num_tokens(pieces)} tokens, but {most} fit; shorten the last message")
            end = next((place for place in turns[1:] if kept[place].role == "user"), turns[-1] + 1)
            kept = [one for place, one in enumerate(kept) if place not in turns or place >= end]
        return pieces

    def _render(self, messages: Sequence[Mapping[str, str]], is_open: bool) -> str:
        given = {"messages": messages, "add_generation_prompt": is_open, "tools": None, "documents": None}
        try:
            return str.__str__(self._template.render({**self._named, **given}))
        except Exception as error:  # a template can raise anything
            told = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"the model's chat template refuses this conversation: {told}") from error

    def _split(
        self, text: str, placeholders: Mapping[str, Medium], unescape: Mapping[int, str]
    ) -> Iterator[PromptPiece]:
        """Split the rendered text at special tokens and media; consecutive ids form one piece."""
        media = "|".join(map(re.escape, placeholders)) or r"(?!)"
        ids: list[int] = []
        for part, is_special in self._matched(re.split(f"({self._special}|{media})", text)):
            if part in placeholders:
                if ids:
                    yield tuple(ids)
                ids = []
                yield placeholders[part]
            elif is_special:
                ids.append(self._tokenizer.special_ids[part])
            elif part:
                ids += self._tokenizer.encode(part.translate(unescape), with_special=False)
        if ids:
            yield tuple(ids)

    def _matched(self, parts: list[str]) -> list[tuple[str, bool]]:
        """Apply the tokenizer's matching options to `parts`; each second part is a special token or a medium.

        A token may include the whitespace beside it (`lstrip`, `rstrip`), or match whole words only
        (`single_word`). Returns parts, and whether each is a special token.
        """
        found = [(parts[0], False)]
        for token, after in zip(parts[1::2], parts[2::2], strict=True):
            options, before = self._tokenizer.added.get(token), found[-1][0]
            if options is not None and options.single_word and (_is_word(before[-1:]) or _is_word(after[:1])):
                found[-1] = (before + token + after, False)
                continue
            if options is not None and options.lstrip:
                found[-1] = (before.rstrip(), False)
            after = after.lstrip() if options is not None and options.rstrip else after
            found += [(token, options is not None), (after, False)]
        return found


def knows_chatml(tokenizer: Bpe) -> bool:
    """Whether a tokenizer has the ChatML tokens."""
    return {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.special_ids)


def _characters_to_escape(token: str) -> set[str]:
    return {one for one in token if one not in _NOT_ESCAPED and not one.isspace()} or set(token)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _spare_characters(taken: str) -> Iterator[str]:
    used = set(taken)
    yield from (chr(code) for code in chain(*_SPARE) if chr(code) not in used)
    raise UsageError("the texts use nearly all private-use characters; leave some out")
