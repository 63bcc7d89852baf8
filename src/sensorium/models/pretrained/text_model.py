"""A published language model, ready to write: decoder, tokenizer, chat layout, and the ids that end a turn.

In: a `.gguf` file, or a folder as Hugging Face lays it out (`config.json`, safetensors in one file or in
shards, `tokenizer.json`). Out: a `TextModel`. Knows names of files; what is in them is known by its siblings.
Fetches nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat, knows_chatml
from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.language_model import LanguageModel
from sensorium.models.pretrained import gguf_llama, llama
from sensorium.models.pretrained.gguf import Gguf, read_gguf
from sensorium.models.pretrained.gguf_tokenizer import tokenizer_json

_WEIGHTS, _INDEX, _CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


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
    with _naming(path):
        values = gguf_llama.read_config(file)
        config = llama.read_config(values)
        state = gguf_llama.translate(file, config.block.num_heads, config.block.num_kv_heads)
        tokenizer = Bpe(tokenizer_json(file.metadata))
        return TextModel(
            llama.build(config, {name: value.to(dtype) for name, value in state}),
            tokenizer,
            _chat(tokenizer, str(file.metadata.get("tokenizer.chat_template", "")), _gguf_named(file)),
            _gguf_end_ids(file),
            int(values["max_position_embeddings"]),
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
    values = _read_json(folder / _CONFIG)
    with _naming(folder):
        config = llama.read_config(values)
        state = llama.translate(_read_weights(folder), is_tied=config.is_tied)
        model = llama.build(config, {name: value.to(dtype) for name, value in state.items()})
    tokenizer = Bpe.load(folder / "tokenizer.json")
    settings = _read_json(folder / "tokenizer_config.json", {})
    return TextModel(
        model,
        tokenizer,
        _chat(tokenizer, _chat_template(folder, settings), _named(settings)),
        _end_ids(folder, values, settings, tokenizer),
        int(values.get("max_position_embeddings", 2048)),
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
    for source in (_read_json(folder / "generation_config.json", {}), values):
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


def _read_weights(folder: Path) -> dict[str, Tensor]:
    index = folder / _INDEX
    names = sorted(set(_read_json(index)["weight_map"].values())) if index.is_file() else [_WEIGHTS]
    state: dict[str, Tensor] = {}
    for name in names:
        path = folder / Path(name).name
        if not path.is_file():
            raise NotFoundError(f"no file {path}; only safetensors are read, expected {_WEIGHTS} or shards")
        try:
            state.update(load_file(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path.name} is not a whole safetensors file: {error}") from error
    return state


def _read_json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if default is not None:
            return default
        raise NotFoundError(f"no file {path}; expected a folder as Hugging Face lays it out") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}; fetch it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch it again")
    return values


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error say of which checkpoint it speaks."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
