"""Llama, Qwen2 and Qwen3 in GGUF: maps metadata and tensors of llama.cpp to ours.

Input: an opened file. Output: the equivalent `config.json` of Hugging Face, so that one reader serves both,
and parameters under our names. Files of architecture `llama` store the rows of queries and keys in rotary
pairs (2i, 2i + 1); here, as in transformers, they are (i, i + K/2). Rows are reordered before blocks are
decoded. Metadata that would change the result and are not supported are refused by key.

Reference: `convert_hf_to_gguf.py` of llama.cpp, `LlamaModel.permute`, and `constants.py` of its package gguf;
`llama-model.cpp` and `llama-context.cpp` for the effect and the default of each key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained.gguf import F32, Gguf, GgufTensor
from sensorium.models.pretrained.llama import FAMILIES
from sensorium.models.pretrained.rope import Rope, multiplied, read_base, read_factor, yarn_factors, yarn_gain
from sensorium.models.pretrained.settings import Settings, short_repr
from sensorium.models.weights import check_finite

_PAIRED = ("llama",)
_ROPE_FACTORS, _EMBEDDING = "rope_freqs.weight", "token_embd.weight"
_READ = frozenset(
    (
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "rope.dimension_count",
        "rope.freq_base", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor",
        "rope.scaling.attn_factor", "rope.scaling.original_context_length", "rope.scaling.finetuned",
    )
)  # fmt: skip
"""Keys of attention and positions that are supported or do not affect the result; others are refused."""
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "attention.scale": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.clamp_kqv": (0,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "use_parallel_residual": (False,),
    "tensor_data_layout": ("reference", "Meta AI original pth"),
    "pooling_type": (0,),
    "swin_norm": (False,),
    "embedding_length_out": (0,),
    "n_deepstack_layers": (0,),
    "nextn_predict_layers": (0,),
}
"""Keys that would change the result, with their neutral values."""


def read_config(file: Gguf) -> tuple[dict[str, Any], Rope]:
    """Equivalent `config.json`, and rotary positions; raises `CheckpointError` if not supported."""
    meta = Settings(file.metadata, "the metadata")
    family = meta.get("general.architecture")
    if family not in FAMILIES:
        raise CheckpointError(
            f"model_type {short_repr(family)} is not supported; supported: {', '.join(FAMILIES)}"
        )
    meta.refuse_unless("split.count", 0, 1)
    read = Settings(
        {key.removeprefix(f"{family}."): one for key, one in meta.items() if key.startswith(f"{family}.")},
        f"the metadata of '{family}'",
    )
    _refuse_unsupported(read)
    num_layers, width, context = (
        read.size(key) for key in ("block_count", "embedding_length", "context_length")
    )
    num_heads = _one_for_all(read, "attention.head_count", num_layers)
    head_dim = _head_dim(read, width, num_heads)
    embedding = file.tensors.get(_EMBEDDING)
    if embedding is None:
        raise CheckpointError(f"the file has no tensor '{_EMBEDDING}'; is it a part of a model?")
    if read.size("vocab_size", embedding.shape[0]) != embedding.shape[0]:
        raise read.error("vocab_size", f"{embedding.shape[0]}, the rows of '{_EMBEDDING}'")
    return {
        "model_type": family,
        "vocab_size": embedding.shape[0],
        "hidden_size": width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": _one_for_all(read, "attention.head_count_kv", num_layers, default=num_heads),
        "head_dim": head_dim,
        "intermediate_size": _one_for_all(read, "feed_forward_length", num_layers),
        "rms_norm_eps": read.number("attention.layer_norm_rms_epsilon", least=1e-30, most=1.0),
        "attention_bias": _has_bias(file, r"attn_(q|k|v|output)"),
        "mlp_bias": family == "llama" and _has_bias(file, r"ffn_\w+"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "max_position_embeddings": context,
    }, _rope(file, read, head_dim, context)


def shapes(file: Gguf) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by our name; decodes nothing."""
    return {rename(name): tensor.shape for name, tensor in file.tensors.items() if name != _ROPE_FACTORS}


def translate(file: Gguf, num_heads: int, num_kv_heads: int | None) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters by our names in float32; raises `CheckpointError` for unknown names."""
    is_paired = file.metadata.get("general.architecture") in _PAIRED
    heads = {"query": num_heads, "key": num_heads if num_kv_heads is None else num_kv_heads}
    for name, tensor in file.tensors.items():
        if name == _ROPE_FACTORS:
            continue
        ours = rename(name)
        part = ours.split(".")[-2]
        if is_paired and part in heads:
            tensor = unpair(tensor, heads[part])
        yield ours, torch.from_numpy(tensor.decode())


def unpair(tensor: GgufTensor, num_heads: int) -> GgufTensor:
    """Reorder the rows of each head from 0, 1, 2, 3, ... to 0, 2, ..., 1, 3, ...."""
    if len(tensor.shape) == 1:  # a bias: each value is a row
        values = rearrange(tensor.decode(), "(h k two) -> (h two k)", h=num_heads, two=2)
        return GgufTensor(tensor.shape, F32, values[None].view(np.uint8))
    blocks = rearrange(tensor.blocks, "(h k two) bytes -> (h two k) bytes", h=num_heads, two=2)
    return GgufTensor(tensor.shape, tensor.kind, blocks)


def rename(name: str) -> str:
    """Return our name of one tensor."""
    if name in _NAMES:
        return _NAMES[name]
    match = re.fullmatch(r"blk\.(\d{1,6})\.(\w+)\.(weight|bias)", name)
    if match and match[2] in _PARTS:
        return f"stack.blocks.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
    raise CheckpointError(
        f"{short_repr(name)} is no tensor of llama, qwen2 or qwen3; is this another architecture?"
    )


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


def _refuse_unsupported(read: Settings) -> None:
    for key, value in read.items():
        is_of_attention = key.startswith(("attention.", "rope.")) and key not in _READ
        if key in _NEUTRAL or is_of_attention or key.startswith("expert"):
            read.refuse_unless(key, *_NEUTRAL.get(key, (0,)))
        if isinstance(value, float) and not np.isfinite(value):
            raise read.error(key, "a finite number")


def _one_for_all(read: Settings, key: str, num_layers: int, default: int | None = None) -> int:
    """A size that may be given per layer; all layers must have the same."""
    value = read.get(key)
    if not isinstance(value, list):
        return read.size(key, default)
    if len(value) != num_layers or any(one != value[0] for one in value):
        raise read.error(key, f"{num_layers} equal values: layers of different sizes are not supported")
    return Settings({key: value[0]}, read.source).size(key)


def _head_dim(read: Settings, width: int, num_heads: int) -> int:
    """Width of a head; keys, values and rotary dimensions must agree."""
    if width % num_heads and read.get("attention.key_length") is None:
        raise read.error("attention.head_count", f"a divisor of embedding_length={width}, or a key_length")
    common = width // num_heads or None
    head_dim = read.size("attention.key_length", common)
    for key, default in (("attention.value_length", common), ("rope.dimension_count", head_dim)):
        size = read.size(key, default)
        if size != head_dim:
            raise CheckpointError(
                f"{read.source} has {key}={size} where heads are {head_dim} wide; expected equal widths"
            )
    return head_dim


def _rope(file: Gguf, read: Settings, head_dim: int, context: int) -> Rope:
    """Rotary positions as in llama.cpp: scaling is linear by default; the factor may have its old key."""
    base, kind = read_base(read, "rope.freq_base"), read.get("rope.scaling.type")
    if kind not in (None, "none", "linear", "yarn"):
        raise read.error("rope.scaling.type", "none, linear or yarn; others are not supported")
    key = "rope.scale_linear" if read.get("rope.scaling.factor") is None else "rope.scaling.factor"
    factor = 1.0 if read.get(key) in (None, 0) else read_factor(read, key)
    original = read.size("rope.scaling.original_context_length", context)
    read.flag("rope.scaling.finetuned")  # checked, but it has no effect
    gain, factors = read_factor(read, "rope.scaling.attn_factor", 1.0), tuple[float, ...]()
    if kind == "yarn":
        factors, gain = yarn_factors(factor, base, head_dim, original), gain * yarn_gain(factor)
    elif kind != "none" and factor != 1:
        factors = (factor,) * (head_dim // 2)
    return Rope(base, multiplied(factors, _given_factors(file, head_dim)), gain)


def _given_factors(file: Gguf, head_dim: int) -> tuple[float, ...]:
    """Frequency factors stored as a tensor, as for Llama 3.1 and later."""
    tensor = file.tensors.get(_ROPE_FACTORS)
    if tensor is None:
        return ()
    if file.metadata.get("general.architecture") != "llama":
        raise CheckpointError(f"'{_ROPE_FACTORS}' is present, but this architecture does not use it")
    if tensor.shape != (head_dim // 2,):
        raise CheckpointError(f"'{_ROPE_FACTORS}' is of shape {tensor.shape}; expected ({head_dim // 2},)")
    values = torch.from_numpy(tensor.decode())
    check_finite({_ROPE_FACTORS: values})
    if bool((values <= 0).any()):
        raise CheckpointError(f"'{_ROPE_FACTORS}' holds {float(values.min()):g}; expected numbers above 0")
    return tuple(cast("list[float]", values.tolist()))


def _has_bias(file: Gguf, parts: str) -> bool:
    return any(re.fullmatch(rf"blk\.\d+\.{parts}\.bias", name) for name in file.tensors)
