"""A conversation laid out as a language model was trained to read it: messages to ids.

In: messages of text and media. Out: pieces, each a run of ids or the place of a medium. The layout is a Jinja
template that came with the model, or ChatML. It is run in a sandbox and has what transformers gives it: the
special tokens by name, `raise_exception`, `strftime_now`, `tojson`, loop controls and the tag `generation`.
Two things hold for any template and any text:

- What people write never becomes a special token. Before a template sees a text, the characters of all
  special tokens are exchanged for others that occur nowhere (`codecs.escaped_text`). A special token in
  the result was therefore written by the template; then the characters are put back.
- No text can stand for a medium: a medium's place is held by a character that is in no text.

Equal conversations give equal ids, unless the template asks for the date. Does not know models.

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
from sensorium.codecs.escaped_text import Masks, taint
from sensorium.codecs.pieces import Medium, Piece, num_tokens
from sensorium.codecs.template import compile_template
from sensorium.core.errors import CheckpointError, UsageError

Role: TypeAlias = Literal["system", "user", "assistant"]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The layout of Chat Markup Language, for models that know its two marks and come without a template."""

_SPARE = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
"""Two planes of characters that no standard gives a meaning to."""
_UNMASKED = frozenset('"\\')
"""Characters that `tojson` escapes, beside whitespace: a mark is told by its other characters."""


@dataclass(frozen=True)
class Message:
    """What one side said.

    Attributes:
        role: Who.
        content: Texts and media, in their order; a text alone may be given as it is.
    """

    role: Role
    content: str | tuple[str | Medium, ...]

    @property
    def parts(self) -> tuple[str | Medium, ...]:
        """Texts and media."""
        return (self.content,) if isinstance(self.content, str) else self.content


class Chat:
    """The layout of one model.

    Args:
        tokenizer: Whose special tokens the template writes.
        template: Jinja text; empty: ChatML.
        named: What templates know by name: special tokens, such as `bos_token`, or lists of them.

    Raises:
        CheckpointError: If the template does not parse, or the tokenizer lacks ChatML's marks where needed.

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
        marks = sorted(tokenizer.special_ids, key=len, reverse=True)
        self._marks = "|".join(map(re.escape, marks)) or r"(?!)"
        self._masked = sorted({one for mark in marks for one in _telling(mark)})

    @cached_property
    def turn_end(self) -> int | None:
        """The special token that the template writes after an answer; None if it writes none there."""
        said = [Message("user", "a"), Message("assistant", (Medium(0),))]
        try:
            pieces = self.encode(said, is_open=False)
        except UsageError:
            return None
        after = pieces[pieces.index(Medium(0)) + 1 :] if Medium(0) in pieces else []
        for number in (one for piece in after if isinstance(piece, tuple) for one in piece):
            if self._tokenizer.is_silent(number):
                return number
            if self._tokenizer.decode([number]).strip():
                return None
        return None

    def encode(self, messages: Sequence[Message], *, is_open: bool = True) -> list[Piece]:
        """Lay a conversation out.

        Args:
            messages: From the first to the last.
            is_open: Whether the assistant's turn is begun at the end.

        Raises:
            UsageError: If the template refuses the conversation (two questions in a row, for example).
        """
        for message in messages:
            if message.role not in get_args(Role):
                raise UsageError(f"role {message.role!r}; expected one of {', '.join(get_args(Role))}")
        media = [part for message in messages for part in message.parts if isinstance(part, Medium)]
        texts = [part for message in messages for part in message.parts if isinstance(part, str)]
        spare = _spare_characters("".join([self._source, *self._tokenizer.special_ids, *texts]))
        hide = {ord(one): next(spare) for one in self._masked}
        holders = [(next(spare), medium) for medium in media]
        masks = Masks(hide, {ord(mask): chr(one) for one, mask in hide.items()})
        rest = iter(holders)
        given: list[Mapping[str, str]] = []
        for message in messages:
            parts = [part if isinstance(part, str) else next(rest)[0] for part in message.parts]
            given.append({"role": message.role, "content": taint("".join(parts), masks)})
        return list(self._split(self._render(given, is_open), dict(holders), masks.show))

    def within(self, messages: Sequence[Message], most: int) -> list[Piece]:
        """Lay out as much of a conversation as fits `most` tokens: the oldest exchanges are left out.

        System messages and the last message stay.

        Raises:
            UsageError: If these alone do not fit.
        """
        kept = list(messages)
        while num_tokens(pieces := self.encode(kept)) > most:
            turns = [place for place, one in enumerate(kept[:-1]) if one.role != "system"]
            if not turns:
                raise UsageError(f"{num_tokens(pieces)} tokens, but {most} fit; shorten the last message")
            answered = [place for place in turns[1:] if kept[place].role == "user"]
            end = answered[0] if answered else turns[-1] + 1
            kept = [
                one for place, one in enumerate(kept) if not turns[0] <= place < end or one.role == "system"
            ]
        return pieces

    def _render(self, messages: Sequence[Mapping[str, str]], is_open: bool) -> str:
        given = {"messages": messages, "add_generation_prompt": is_open, "tools": None, "documents": None}
        try:
            return str.__str__(self._template.render({**self._named, **given}))
        except Exception as error:  # a template may fail in any way that a program can
            told = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"the model's chat template refuses this conversation: {told}") from error

    def _split(self, text: str, holders: Mapping[str, Medium], show: Mapping[int, str]) -> Iterator[Piece]:
        """Cut the rendered text at marks and media; neighbouring ids become one piece."""
        held = "|".join(map(re.escape, holders)) or r"(?!)"
        parts = self._matched(re.split(f"({self._marks}|{held})", text))
        ids: list[int] = []
        for part, is_mark in parts:
            if part in holders:
                if ids:
                    yield tuple(ids)
                ids = []
                yield holders[part]
            elif is_mark:
                ids.append(self._tokenizer.special_ids[part])
            elif part:
                ids += self._tokenizer.encode(part.translate(show), with_special=False)
        if ids:
            yield tuple(ids)

    def _matched(self, parts: list[str]) -> list[tuple[str, bool]]:
        """Parts, of which every second one is a mark or a medium, as the tokenizer's own matching takes them.

        A mark may take the whitespace beside it in (`lstrip`, `rstrip`), or count as a whole word only.
        """
        found = [(parts[0], False)]
        for mark, after in zip(parts[1::2], parts[2::2], strict=True):
            how, before = self._tokenizer.added.get(mark), found[-1][0]
            if how is not None and how.single_word and (_is_word(before[-1:]) or _is_word(after[:1])):
                found[-1] = (before + mark + after, False)
                continue
            if how is not None and how.lstrip:
                found[-1] = (before.rstrip(), False)
            after = after.lstrip() if how is not None and how.rstrip else after
            found += [(mark, how is not None), (after, False)]
        return found


def knows_chatml(tokenizer: Bpe) -> bool:
    """Whether a tokenizer has ChatML's marks."""
    return {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.special_ids)


def _telling(mark: str) -> set[str]:
    """Characters by which it is known who wrote a mark."""
    return {one for one in mark if one not in _UNMASKED and not one.isspace()} or set(mark)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _spare_characters(taken: str) -> Iterator[str]:
    used = set(taken)
    yield from (chr(code) for code in chain(*_SPARE) if chr(code) not in used)
    raise UsageError("a text with nearly all characters of private use; leave some out")
