"""A conversation laid out as a language model was trained to read it: messages to ids.

In: messages of text and media. Out: pieces, each a run of ids or the place of a medium. The layout is a Jinja
template that came with the model, run in a sandbox, or ChatML. Two things hold for any template and any text:

- What people write never becomes a special token. Before a template sees a text, the first and last
  characters of all special tokens (`<` and `>`, as a rule) are exchanged for others that occur nowhere. A
  special token in the result was therefore written by the template; then the characters are put back.
- No text can stand for a medium: a medium's place is held by a character that is in no text.

A template is not told the time, so that equal conversations give equal ids. Does not know models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sensorium.codecs.bpe import Bpe
from sensorium.codecs.pieces import Medium, Piece, num_tokens
from sensorium.core.errors import CheckpointError, UsageError

Role: TypeAlias = Literal["system", "user", "assistant"]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The layout of Chat Markup Language, for models that know its two marks and come without a template."""

_SPARE = range(0xF0000, 0xFFFFE)
"""A plane of characters that no standard gives a meaning to."""


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
        named: Special tokens that templates know by name, such as `bos_token`.

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

    def __init__(self, tokenizer: Bpe, template: str = "", named: Mapping[str, str] | None = None) -> None:
        if not template and not knows_chatml(tokenizer):
            raise CheckpointError("the tokenizer does not know ChatML; give a template")
        self._tokenizer, self._source, self._named = tokenizer, template or CHATML, dict(named or {})
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(self._source)
        except TemplateError as error:
            raise CheckpointError(f"the model's chat template does not parse: {error}") from error
        marks = sorted(tokenizer.special_ids, key=len, reverse=True)
        self._marks = "|".join(map(re.escape, marks)) or r"(?!)"
        self._guarded = sorted({end for mark in marks for end in (mark[0], mark[-1])})

    def encode(self, messages: Sequence[Message], *, is_open: bool = True) -> list[Piece]:
        """Lay a conversation out.

        Args:
            messages: From the first to the last.
            is_open: Whether the assistant's turn is begun at the end.

        Raises:
            UsageError: If the template refuses the conversation (two questions in a row, for example).
        """
        media = [part for message in messages for part in message.parts if isinstance(part, Medium)]
        texts = [part for message in messages for part in message.parts if isinstance(part, str)]
        spare = _spare_characters("".join([self._source, *texts]))
        masks = {ord(one): next(spare) for one in self._guarded}
        holders = [(next(spare), medium) for medium in media]
        rest = iter(holders)
        given = [
            {
                "role": message.role,
                "content": "".join(
                    part.translate(masks) if isinstance(part, str) else next(rest)[0]
                    for part in message.parts
                ),
            }
            for message in messages
        ]
        unmask = {ord(mask): chr(one) for one, mask in masks.items()}
        return list(self._split(self._render(given, is_open), dict(holders), unmask))

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
        try:
            return self._template.render(
                **self._named, messages=messages, add_generation_prompt=is_open, tools=None, documents=None
            )
        except Exception as error:  # a template may fail in any way that a program can
            raise UsageError(f"the model's chat template refuses this conversation: {error}") from error

    def _split(self, text: str, holders: Mapping[str, Medium], unmask: Mapping[int, str]) -> Iterator[Piece]:
        """Cut the rendered text at marks and media; neighbouring ids become one piece."""
        held = "|".join(map(re.escape, holders)) or r"(?!)"
        ids: list[int] = []
        for part in re.split(f"({self._marks}|{held})", text):
            if part in holders:
                if ids:
                    yield tuple(ids)
                ids = []
                yield holders[part]
            elif part in self._tokenizer.special_ids:
                ids.append(self._tokenizer.special_ids[part])
            elif part:
                ids += self._tokenizer.encode(part.translate(dict(unmask)), with_special=False)
        if ids:
            yield tuple(ids)


def knows_chatml(tokenizer: Bpe) -> bool:
    """Whether a tokenizer has ChatML's marks."""
    return {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.special_ids)


def _spare_characters(taken: str) -> Iterator[str]:
    used = set(taken)
    return (chr(code) for code in _SPARE if chr(code) not in used)


def _to_json(value: object, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
