"""Llama, Qwen2 and Qwen3 as llama.cpp names them: a GGUF file's metadata and tensors in our terms.

In: an opened file. Out: the `config.json` that it would have on Hugging Face, so that there is one reader of
configurations, and parameters under our names. Files of architecture `llama` hold the rows of queries and
keys in pairs (2i, 2i + 1) of rotary coordinates; here as in transformers they are (i, i + K/2). Since blocks
lie along rows, the rows are put in order before they are decoded.

Reference: `convert_hf_to_gguf.py` of llama.cpp, `LlamaModel.permute`, and `constants.py` of its package gguf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained.gguf import Gguf, GgufTensor
from sensorium.models.pretrained.quants import BLOCK_TYPES

_PAIRED = ("llama",)
_ROPE_FACTORS = "rope_freqs.weight"


def read_config(file: Gguf) -> dict[str, Any]:
    """Return the `config.json` that says what the metadata say."""
    meta = file.metadata
    family = meta.get("general.architecture")

    def read(key: str) -> Any:
        return meta.get(f"{family}.{key}")

    num_heads, width = read("attention.head_count"), read("embedding_length")
    has_sizes = isinstance(num_heads, int) and isinstance(width, int) and num_heads > 0
    head_dim = read("attention.key_length") or (width // num_heads if has_sizes else None)
    scaling = "llama3" if _ROPE_FACTORS in file.tensors else read("rope.scaling.type")
    rotated = read("rope.dimension_count") or head_dim
    embedding = file.tensors.get("token_embd.weight")
    return {
        "model_type": family,
        "vocab_size": None if embedding is None else embedding.shape[0],
        "hidden_size": width,
        "num_hidden_layers": read("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": read("attention.head_count_kv"),
        "head_dim": head_dim,
        "intermediate_size": read("feed_forward_length"),
        "rms_norm_eps": read("attention.layer_norm_rms_epsilon"),
        "rope_theta": read("rope.freq_base"),
        "rope_scaling": {"rope_type": "default" if scaling in (None, "none") else scaling},
        "partial_rotary_factor": None if head_dim is None else rotated / head_dim,
        "use_sliding_window": read("attention.sliding_window") is not None,
        "num_experts": read("expert_count"),
        "attention_bias": family != "qwen2" and any(name.endswith("attn_q.bias") for name in file.tensors),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "max_position_embeddings": read("context_length"),
    }


def translate(file: Gguf, num_heads: int, num_kv_heads: int | None) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter under our name, decoded to float32.

    Raises:
        CheckpointError: If a name is not of this family.
    """
    is_paired = file.metadata.get("general.architecture") in _PAIRED
    heads = {"query": num_heads, "key": num_heads if num_kv_heads is None else num_kv_heads}
    for name, tensor in file.tensors.items():
        ours = rename(name)
        part = ours.split(".")[-2]
        if is_paired and part in heads:
            tensor = unpair(tensor, heads[part])
        yield ours, torch.from_numpy(tensor.decode())


def unpair(tensor: GgufTensor, num_heads: int) -> GgufTensor:
    """Put the rows of each head from the order (0, 1), (2, 3), ... into 0, 2, ..., 1, 3, ...."""
    if len(tensor.shape) == 1:  # a bias: each value is a row
        values = rearrange(tensor.decode(), "(h k two) -> (h two k)", h=num_heads, two=2)
        return GgufTensor(tensor.shape, BLOCK_TYPES[0], values[None].view(np.uint8))
    blocks = rearrange(tensor.blocks, "(h k two) bytes -> (h two k) bytes", h=num_heads, two=2)
    return GgufTensor(tensor.shape, tensor.kind, blocks)


def rename(name: str) -> str:
    """Return our name of one tensor."""
    if name in _NAMES:
        return _NAMES[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match and match[2] in _PARTS:
        return f"stack.blocks.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
    raise CheckpointError(f"'{name}' is no tensor of llama, qwen2 or qwen3; is this another architecture?")


_NAMES: Mapping[str, str] = {
    "token_embd.weight": "embedding.weight",
    "output_norm.weight": "stack.norm.weight",
    "output.weight": "head.weight",
}
_PARTS: Mapping[str, str] = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.out",
    "attn_q_norm": "attention.query_norm",
    "attn_k_norm": "attention.key_norm",
    "ffn_norm": "mlp_norm",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.down",
}
