"""Chat templates shaped like those of published families give the ids that transformers gives."""

import datetime
import re
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from sensorium.codecs import Bpe, Chat, Message, train_bpe
from sensorium.codecs.chat import ids_of
from sensorium.core.errors import UsageError

NAMED = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
SPECIAL = [
    *("<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>"),
    *(
        "<|end_header_id|>",
        "<|eot_id|>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<|system|>",
        "<|user|>",
        "<|end|>",
    ),
    *("<|assistant|>", "[INST]", "[/INST]", "<｜User｜>", "<｜Assistant｜>"),
]
TAKES_SPACE = {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"}  # as those of Phi-3
ORDINARY = ["<think>", "</think>", "<tool_response>", "</tool_response>", "    "]


def tokenizer() -> Tokenizer:
    made = Tokenizer.from_str(train_bpe(["the system user asks, an assistant model answers\n\n"] * 5, 400))
    made.add_tokens(
        [AddedToken(one, special=True, normalized=False, rstrip=one in TAKES_SPACE) for one in SPECIAL]
    )
    made.add_tokens([AddedToken(one, special=False, normalized=False) for one in ORDINARY])
    return made


TOKENIZER = tokenizer()
TEMPLATES = {
    path.stem: path.read_text() for path in (Path(__file__).parent / "chat_templates").glob("*.jinja")
}
DROPS_THOUGHTS = {"qwen3", "deepseek", "smollm3"}
TALKS = {
    "question": [("user", "Who answers?")],
    "system": [("system", " Be short. "), ("user", "  Who\nanswers?\n\n")],
    "thoughts": [
        ("user", "a question"),
        ("assistant", "<think>\nthe user asks\n</think>\n\nan answer"),
        ("user", "another\n"),
    ],
    "two answers": [
        ("system", "Be short."),
        ("user", "one"),
        ("assistant", "\n\n1 < 2 > 0 | 3"),
        ("user", "grün 青蛙 \"quoted\" \\ 'single'    spaces"),
        ("assistant", " <think>no\n\n</think>    yes "),
        ("user", "why"),
    ],
}


def right(template: str, talk: list[tuple[str, str]], is_open: bool) -> list[int]:
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(TOKENIZER.to_str()), chat_template=template, **NAMED
    )
    said = [{"role": role, "content": text} for role, text in talk]
    return list(theirs.apply_chat_template(said, add_generation_prompt=is_open, return_dict=False))


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_ids_are_those_of_transformers(name: str, talk: str, is_open: bool) -> None:
    chat = Chat(Bpe(TOKENIZER.to_str()), TEMPLATES[name], NAMED)
    got = ids_of(chat.encode([Message(*one) for one in TALKS[talk]], is_open=is_open))
    theirs = right(TEMPLATES[name], TALKS[talk], is_open)
    if name not in DROPS_THOUGHTS and any("<think>" in text for _, text in TALKS[talk]):
        got, theirs = (spoken(ids) for ids in (got, theirs))  # theirs are marks again, ours stay text
    assert got == theirs


def spoken(ids: list[int]) -> str:
    return TOKENIZER.decode(ids, skip_special_tokens=False)


def test_the_date_is_todays() -> None:
    chat = Chat(Bpe(TOKENIZER.to_str()), "{{ strftime_now('%d %b %Y') }}")
    before = datetime.datetime.now()
    text = Bpe(TOKENIZER.to_str()).decode(ids_of(chat.encode([Message("user", "a")])))
    assert text in {one.strftime("%d %b %Y") for one in (before, datetime.datetime.now())}


def harmless(typed: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """A text without marks, alike in what a template may look for: bars and line breaks."""
    if isinstance(typed, str):
        return re.sub(r"[^|\n]", "x", typed)
    return tuple(re.sub(r"[^|\n]", "x", part) for part in typed)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_no_special_token_that_is_typed_becomes_one(name: str) -> None:
    bpe = Bpe(TOKENIZER.to_str())
    chat, marks = Chat(bpe, TEMPLATES[name], NAMED), set(bpe.special_ids.values())

    def written(*contents: str | tuple[str, ...]) -> list[int]:
        roles = ("system", "user", "assistant", "user")
        said = [Message(role, text) for role, text in zip(roles, contents, strict=True)]
        return [one for one in ids_of(chat.encode(said)) if one in marks]

    for mark in (*SPECIAL, *NAMED.values(), "<think>", "<tool_response>"):
        half = len(mark) // 2
        for typed in (
            mark,
            mark[1:-1],
            f"a{mark}b\n{mark}",
            (mark[:half], mark[half:]),
            mark[:half],
            mark[half:],
        ):
            other = harmless(typed)
            assert written("x", typed, "x", "x") == written("x", other, "x", "x")
            assert written(typed, typed, "y", typed) == written(other, other, "y", other)
            assert written("x", "x", typed, "x") == written("x", "x", other, "x")
    for role in ("<|im_end|>", "end", "tool", "", "user|><|end"):
        message = Message("user", "x")
        object.__setattr__(message, "role", role)
        with pytest.raises(UsageError, match="expected one of system, user, assistant"):
            chat.encode([message])
