"""Settings beside a tokenizer: templates by file and name, special tokens by name, what ends a turn."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from sensorium.codecs.bpe import Bpe, train_bpe
from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained import chat_format

PARITY = Path(__file__).parents[1] / "parity" / "chat_templates"
MARKS = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end|>", "<|user|>"]


def with_marks() -> Bpe:
    made = Tokenizer.from_str(train_bpe(["user assistant"] * 3, 300))
    made.add_tokens([AddedToken(one, special=True, normalized=False) for one in MARKS])
    return Bpe(made.to_str())


BPE = with_marks()
ID = BPE.special_ids


def read(
    folder: Path, settings: dict[str, Any], special: dict[str, Any] | None = None, ends: object = None
) -> chat_format.ChatFormat:
    return chat_format.of_folder(
        folder, settings, special or {}, {"generation_config.json": {"eos_token_id": ends}}
    )


def metadata(**values: object) -> dict[str, object]:
    vocab = sorted(json.loads(BPE.json)["model"]["vocab"].items(), key=lambda one: one[1])
    return {"tokenizer.ggml.tokens": [*(one for one, _ in vocab), *MARKS]} | {
        f"tokenizer.{key.replace('__', '.')}": value for key, value in values.items()
    }


@pytest.mark.parametrize(
    ("template", "end"),
    [
        ("chatml", "<|im_end|>"),
        ("qwen3", "<|im_end|>"),
        ("llama3.1", "<|eot_id|>"),
        ("phi3", "<|end|>"),
        ("gemma", None),
    ],
)
def test_the_template_says_what_ends_a_turn(tmp_path: Path, template: str, end: str | None) -> None:
    found = read(tmp_path, {"chat_template": (PARITY / f"{template}.jinja").read_text()}, ends=[0, 2])
    chat = found.chat(BPE)
    assert chat.turn_end == (None if end is None else ID[end])
    assert found.all_ends(BPE, chat) == {0, 2} | ({ID[end]} if end else set())


def test_a_mark_that_begins_the_next_turn_ends_none(tmp_path: Path) -> None:
    template = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|user|>"
    for text, end in (
        (template, ID["<|user|>"]),
        (template.replace("}<|user|>{{", "}{{")[:-8] + " a<|user|>", None),
    ):
        assert read(tmp_path, {"chat_template": text}).chat(BPE).turn_end == end


def test_ends_of_all_settings_are_joined(tmp_path: Path) -> None:
    found = chat_format.of_folder(
        tmp_path,
        {"eos_token": {"content": "<end>"}},
        {},
        {"config.json": {"eos_token_id": 7}, "generation_config.json": {"eos_token_id": [8, -1, 10**9]}},
    )
    assert found.all_ends(BPE, None) == {2, 7, 8}


def test_gguf_files_end_turns_by_metadata_names_and_template() -> None:
    found = chat_format.of_metadata(
        metadata(ggml__eos_token_id=0, ggml__eom_token_id=9, chat_template="{{ bos_token }}")
    )
    assert found.all_ends(BPE, found.chat(BPE)) == {0, 9, ID["<|im_end|>"], ID["<|eot_id|>"], ID["<|end|>"]}
    assert found.named == {"eos_token": "<pad>"}


def test_special_tokens_have_their_names(tmp_path: Path) -> None:
    settings = {
        "bos_token": "<start>", "eos_token": {"content": "<end>", "lstrip": False}, "pad_token": None,
        "image_token": "<image>", "add_bos_token": True,
        "additional_special_tokens": ["<|user|>", {"content": "<|end|>"}],
        "extra_special_tokens": {"audio": "<audio>"},
    }  # fmt: skip
    named = read(tmp_path, settings, {"bos_token": "<other>", "unk_token": {"content": "<unk>"}}).named
    assert named == {
        "bos_token": "<other>", "eos_token": "<end>", "image_token": "<image>", "audio": "<audio>",
        "additional_special_tokens": ["<|user|>", "<|end|>"], "unk_token": "<unk>",
    }  # fmt: skip
    assert (
        read(tmp_path, {**settings, "added_tokens_decoder": {}}, {"bos_token": "x"}).named["bos_token"]
        == "<start>"
    )


def test_the_default_of_several_templates_is_read(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    assert read(tmp_path, {}).template == ""
    assert read(tmp_path, {"chat_template": several}).template == "b"
    assert read(tmp_path, {"chat_template": several[:1]}).template is None
    assert read(tmp_path, {"chat_template": several[:1]}).chat(BPE) is None
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("c")
    assert read(tmp_path, {"chat_template": "a"}).template is None
    (tmp_path / "chat_template.jinja").write_text("d")
    assert read(tmp_path, {"chat_template": "a"}).template == "d"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="UTF-8"):
        read(tmp_path, {})


@pytest.mark.parametrize(
    "value", [3, 1.5, True, [1], {"a": 2}, [{"name": "default"}], [{"name": "default", "template": 3}]]
)
def test_values_of_another_type_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match="expected a text"):
        read(tmp_path, {"chat_template": value})
    with pytest.raises(CheckpointError, match="expected a text"):
        read(tmp_path, {"eos_token": value})
    with pytest.raises(CheckpointError, match="expected a text"):
        chat_format.of_metadata(metadata(chat_template=value))
    if value not in (3, [1]):
        with pytest.raises(CheckpointError, match="expected an id"):
            read(tmp_path, {}, ends=value)


@pytest.mark.parametrize("value", ["2", 2.0, True, 10**6])
def test_ids_that_are_none_are_refused_in_metadata(value: object) -> None:
    with pytest.raises(CheckpointError, match="eot_token_id="):
        chat_format.of_metadata(metadata(ggml__eot_token_id=value))


def test_named_tokens_of_the_vocabulary_are_special_unless_a_text_reads_so() -> None:
    bare = json.loads(BPE.json)
    vocab = bare["model"]["vocab"]
    bare["added_tokens"] = []
    bare["model"]["vocab"] = vocab | {mark: number for number, mark in enumerate(MARKS, len(vocab))}
    found = Bpe(json.dumps(bare), special=["<|im_end|>", "a", "nowhere"])
    assert set(found.special_ids) == {"<|im_end|>"}
    assert found.decode([ID["<|im_end|>"]]) == ""
