"""A published language model, ready to write: decoder, tokenizer, chat layout, and the ids that end a turn.

In: a `.gguf` file, or a folder as Hugging Face lays it out (`config.json`, safetensors in one file or in
shards, `tokenizer.json`). Out: a `TextModel`. Knows names of files; what is in them is known by its
siblings. Fetches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat
from sensorium.core.errors import CheckpointError
from sensorium.core.tokenizer import read_tokenizer_file
from sensorium.models.language_model import LanguageModel
from sensorium.models.pretrained import gguf_llama, llama, turns
from sensorium.models.pretrained.folder import check_end_ids, naming, read_json, read_weights
from sensorium.models.pretrained.gguf import read_gguf
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
        check_special_ids(file.metadata)
        found = turns.of_metadata(file.metadata)
        tokenizer = Bpe(tokenizer_json(file.metadata), config.vocab_size, [*found.special, *found.ends])
        _check_sizes(tokenizer, config.vocab_size)
        chat = found.chat(tokenizer)
        state = gguf_llama.translate(file, config.block.num_heads, config.block.num_kv_heads)
        return TextModel(
            llama.build(config, {name: value.to(dtype) for name, value in state}),
            tokenizer,
            chat,
            found.all_ends(tokenizer, chat),
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
        tokenizer, chat, end_ids = _read_turns(folder, values, config.vocab_size)
        _check_sizes(tokenizer, config.vocab_size)
    return TextModel(model, tokenizer, chat, end_ids, llama.num_positions(values))


def _read_turns(
    folder: Path, values: Mapping[str, Any], vocab_size: int
) -> tuple[Bpe, Chat | None, frozenset[int]]:
    """The tokenizer of a folder, the layout of conversations, and the ids that end a turn."""
    generation = read_json(folder / _GENERATION, {})
    check_end_ids(values, _CONFIG)
    check_end_ids(generation, _GENERATION)
    found = turns.of_folder(
        folder,
        read_json(folder / "tokenizer_config.json", {}),
        read_json(folder / "special_tokens_map.json", {}),
        {_CONFIG: values, _GENERATION: generation},
    )
    tokenizer = Bpe(read_tokenizer_file(folder / "tokenizer.json"), vocab_size, found.special)
    chat = found.chat(tokenizer)
    return tokenizer, chat, found.all_ends(tokenizer, chat)


def _check_sizes(tokenizer: Bpe, vocab_size: int) -> None:
    """Refuse a tokenizer of another model: more pieces of text than the model has rows."""
    num_pieces = tokenizer.vocab_size - len(tokenizer.special_ids)
    if num_pieces > vocab_size:
        raise CheckpointError(
            f"the tokenizer has {num_pieces} tokens, the model {vocab_size}; do they belong together?"
        )
