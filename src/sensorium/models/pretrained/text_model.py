"""A published language model, ready to write: decoder, tokenizer, chat layout, and the ids that end a turn.

In: a `.gguf` file, or a folder as Hugging Face lays it out (`config.json`, safetensors in one file or in
shards, `tokenizer.json`). Out: a `TextModel`. Knows names of files; what is in them is known by its
siblings. Fetches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat, knows_chatml
from sensorium.core.errors import CheckpointError
from sensorium.models.language_model import LanguageModel
from sensorium.models.pretrained import gguf_llama, llama
from sensorium.models.pretrained.folder import check_end_ids, naming, read_json, read_text, read_weights
from sensorium.models.pretrained.gguf import Gguf, read_gguf
from sensorium.models.pretrained.gguf_tokenizer import check_special_ids, tokenizer_json

_CONFIG, _GENERATION = "config.json", "generation_config.json"


@dataclass(frozen=True)
class TextModel:
    """What is needed to write with a language model.

    Attributes:
        model: The decoder, in evaluation mode.
        tokenizer: Text to ids and back.
        chat: How a conversation is laid out; None where the model came without, as one that only continues.
        end_ids: Ids after which the model has said what it had to.
        num_positions: Longest sequence that it was trained on.
    """

    model: LanguageModel
    tokenizer: Bpe
    chat: Chat | None
    end_ids: frozenset[int]
    num_positions: int


def load_gguf(path: Path, dtype: torch.dtype = torch.float32) -> TextModel:
    """Read a `.gguf` file; quantised weights are decoded.

    Args:
        path: The file.
        dtype: Of the parameters.

    Raises:
        NotFoundError: If it is not there.
        CheckpointError: If it is damaged, or asks for something that is not supported.
    """
    file = read_gguf(path)
    with naming(path):
        values, rope = gguf_llama.read_config(file)
        config = llama.read_config(values, rope)
        llama.check_shapes(config, gguf_llama.shapes(file))
        tokenizer = Bpe(tokenizer_json(file.metadata))
        check_special_ids(file.metadata)
        _check_sizes(tokenizer, config.vocab_size)
        state = gguf_llama.translate(file, config.block.num_heads, config.block.num_kv_heads)
        return TextModel(
            llama.build(config, {name: value.to(dtype) for name, value in state}),
            tokenizer,
            _chat(tokenizer, str(file.metadata.get("tokenizer.chat_template", "")), _gguf_named(file)),
            _gguf_end_ids(file),
            values["max_position_embeddings"],
        )


def load_folder(folder: Path, dtype: torch.dtype = torch.float32) -> TextModel:
    """Read a folder that `save_pretrained` of transformers wrote, or a snapshot of a model hub.

    Args:
        folder: With `config.json`, `tokenizer.json` and the weights.
        dtype: Of the parameters.

    Raises:
        NotFoundError: If a file is not there.
        CheckpointError: If one is damaged, or asks for something that is not supported.
    """
    values = read_json(folder / _CONFIG)
    with naming(folder):
        config = llama.read_config(values)
        state = llama.translate(read_weights(folder))
        model = llama.build(*llama.untied(config, {name: value.to(dtype) for name, value in state.items()}))
        tokenizer = Bpe(read_text(folder / "tokenizer.json"))
        _check_sizes(tokenizer, config.vocab_size)
        check_end_ids(values, _CONFIG)
        check_end_ids(read_json(folder / _GENERATION, {}), _GENERATION)
    settings = read_json(folder / "tokenizer_config.json", {})
    return TextModel(
        model,
        tokenizer,
        _chat(tokenizer, _chat_template(folder, settings), _named(settings)),
        _end_ids(folder, values, settings, tokenizer),
        llama.num_positions(values),
    )


def _gguf_end_ids(file: Gguf) -> frozenset[int]:
    found = [file.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    return frozenset(one for one in found if isinstance(one, int))


def _gguf_named(file: Gguf) -> dict[str, str]:
    tokens = cast("list[str]", file.metadata["tokenizer.ggml.tokens"])
    found = {name: file.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    return {f"{name}_token": tokens[one] for name, one in found.items() if isinstance(one, int)}


def _named(settings: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens that a template may call by name; each is a text, or described by one."""
    found = {name: settings.get(name) for name in ("bos_token", "eos_token")}
    texts = {name: one.get("content") if isinstance(one, Mapping) else one for name, one in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _chat(tokenizer: Bpe, template: str, named: Mapping[str, str]) -> Chat | None:
    if not template and not knows_chatml(tokenizer):
        return None
    return Chat(tokenizer, template, named)


def _end_ids(
    folder: Path, values: Mapping[str, Any], settings: Mapping[str, Any], tokenizer: Bpe
) -> frozenset[int]:
    """Those of `generation_config.json` and `config.json`, and the tokenizer's own."""
    found: set[int] = set()
    for source in (read_json(folder / _GENERATION, {}), values):
        ids = source.get("eos_token_id")
        found.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
    end = _named(settings).get("eos_token", "")
    return frozenset(found | {tokenizer.special_ids[end]} if end in tokenizer.special_ids else found)


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template") or ""
    if isinstance(template, list):  # several by name
        template = next((one["template"] for one in template if one.get("name") == "default"), "")
    return str(template)


def _check_sizes(tokenizer: Bpe, vocab_size: int) -> None:
    """Refuse a tokenizer of another model: more pieces of text than the model has rows."""
    num_pieces = tokenizer.vocab_size - len(tokenizer.special_ids)
    if num_pieces > vocab_size:
        raise CheckpointError(
            f"the tokenizer has {num_pieces} tokens, the model {vocab_size}; do they belong together?"
        )
