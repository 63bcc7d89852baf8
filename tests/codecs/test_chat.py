"""Chat templates: what is typed never becomes a mark, media stand where their message has them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from sensorium.codecs import Bpe, Chat, Medium, Message, train_bpe
from sensorium.codecs.chat import ids_of, num_tokens
from sensorium.core.errors import CheckpointError, UsageError

MARKS = ["<|im_start|>", "<|im_end|>", "<think>", "[INST]", "<|a", "a|>"]


def with_marks(marks: list[str]) -> Bpe:
    """A tokenizer with marks, of which `<think>` is not declared special, as Qwen's are."""
    tokenizer = Tokenizer.from_str(train_bpe(["low lower lowest"] * 3, 300))
    tokenizer.add_tokens([AddedToken(mark, special=mark != "<think>", normalized=False) for mark in marks])
    tokenizer.add_tokens([AddedToken("    ", special=False, normalized=False)])
    return Bpe(tokenizer.to_str())


BPE = with_marks(MARKS)
TEMPLATES = {
    "chatml": "",
    "trimmed": "{% for m in messages %}[INST]{{ m['content'] | trim }}<|im_end|>{% endfor %}",
    "adjacent": "{% for m in messages %}{{ m.content }}{% endfor %}<think>",
    "conditional": (
        "{% for m in messages %}{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1] }}"
        "{% else %}<|im_start|>{{ m.role + '\\n' + m.content }}{% endif %}{% endfor %}"
    ),
}
CHATS = {name: Chat(BPE, template) for name, template in TEMPLATES.items()}
TYPED = st.lists(
    st.one_of(
        st.sampled_from([*MARKS, "<", ">", "|", "im_end|>", "<|im_", "</think>", "\U000f0000", "    ", "\n"]),
        st.text(max_size=5),
    ),
    min_size=1,
    max_size=6,
).map("".join)
MARK_IDS = set(BPE.special_ids.values())


def marks_of(ids: list[int]) -> list[int]:
    return [one for one in ids if one in MARK_IDS]


@pytest.mark.parametrize("name", CHATS)
@settings(deadline=None)
@given(texts=st.lists(TYPED, min_size=1, max_size=3))
def test_typed_marks_never_become_marks(name: str, texts: list[str]) -> None:
    roles = ["system", "user", "assistant"]
    said = [Message(role, text) for role, text in zip(roles, texts, strict=False)]
    seen = "</think>" if name == "conditional" else "low"  # what this template looks for
    plain = [Message(one.role, seen if seen in one.content else "low") for one in said]
    ids = ids_of(CHATS[name].encode(said))
    assert marks_of(ids) == marks_of(ids_of(CHATS[name].encode(plain)))
    kept = [text.split("</think>")[-1] if name == "conditional" else text for text in texts]
    if name != "trimmed":
        assert all(text in BPE.decode(ids) for text in kept)


def test_the_check_sees_a_mark_that_a_template_writes_for_a_user() -> None:
    ids = ids_of(CHATS["chatml"].encode([Message("user", "low")]))
    assert marks_of(ids) == [BPE.special_ids[mark] for mark in ("<|im_start|>", "<|im_end|>", "<|im_start|>")]


@settings(deadline=None)
@given(TYPED)
def test_typed_text_alone_has_no_marks_and_comes_back(text: str) -> None:
    ids = BPE.encode(text, with_special=False)
    assert not marks_of(ids)
    assert BPE.decode(ids) == text


def test_marks_that_are_not_special_are_spoken_and_the_others_are_not() -> None:
    ids = [BPE.special_ids["<think>"], *BPE.encode("low", with_special=False), BPE.special_ids["<|im_end|>"]]
    assert BPE.decode(ids) == "<think>low"


@settings(deadline=None)
@given(before=TYPED, after=TYPED)
def test_media_stand_where_their_message_has_them(before: str, after: str) -> None:
    media = Medium(1, size=7), Medium(0, size=3)
    after += "low"
    said = Message("user", (before, media[0], after, media[1]))
    pieces = CHATS["chatml"].encode([said])
    assert [piece for piece in pieces if isinstance(piece, Medium)] == list(media)
    assert BPE.decode(pieces[0]).endswith(before)
    assert BPE.decode(pieces[2]) == after
    assert num_tokens(pieces) == len(ids_of(pieces)) + 10


def test_the_oldest_exchanges_are_left_out() -> None:
    chat, role = CHATS["chatml"], ("user", "assistant")
    said = [Message("system", "low"), *(Message(role[n % 2], f"lower {n}") for n in range(7))]
    whole = num_tokens(chat.encode(said))
    assert chat.within(said, whole) == chat.encode(said)
    assert chat.within(said, whole - 1) == chat.encode([said[0], *said[3:]])
    least = num_tokens(chat.encode([said[0], said[-1]]))
    assert chat.within(said, least) == chat.encode([said[0], said[-1]])
    with pytest.raises(UsageError, match=f"{least} tokens, but {least - 1} fit"):
        chat.within(said, least - 1)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for x in range(10 ** 9) %}{% endfor %}",
        "{{ raise_exception('roles must alternate') }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(attack: str) -> None:
    with pytest.raises(UsageError, match="template refuses"):
        Chat(BPE, attack).encode([Message("user", "low")])


def test_text_is_never_run_as_a_template() -> None:
    ids = ids_of(CHATS["chatml"].encode([Message("user", "{{ 7 * 7 }}{% raw %}")]))
    assert "{{ 7 * 7 }}{% raw %}" in BPE.decode(ids)


def test_templates_that_cannot_serve_are_refused() -> None:
    with pytest.raises(CheckpointError, match="does not parse"):
        Chat(BPE, "{% if %}")
    with pytest.raises(CheckpointError, match="does not know ChatML"):
        Chat(with_marks([]))


def test_a_tokenizer_that_is_not_byte_level_is_refused() -> None:
    json = (
        '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,'
        '"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,'
        '"model":{"type":"WordLevel","vocab":{"[UNK]":0,"frog":1},"unk_token":"[UNK]"}}'
    )
    with pytest.raises(CheckpointError, match="byte-level"):
        Bpe(json)
